"""Checkpoints with real damage: the one before is taken, the reason is said, nothing is deleted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.runtime.checkpoints import Checkpoints


def state_of(step, **changes):
    rng = np.random.default_rng(step)
    state = {"step": jnp.int32(step), "params": jnp.asarray(rng.normal(size=(64, 64)), jnp.float32)}
    return {**state, "ema": state["params"] * 0.5, **changes}


def abstract(state):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state)


def save(directory, *states, keep=10, keep_every_steps=0.0):
    with Checkpoints(str(directory), keep=keep, keep_every_steps=keep_every_steps) as checkpoints:
        for state in states:
            assert checkpoints.save(int(state["step"]), state, {"text": "notes", "number": 7})
            checkpoints.wait()
        return checkpoints.steps()


def restore(directory, **options):
    with Checkpoints(str(directory), keep=10) as checkpoints:
        return checkpoints.restore_newest(abstract(state_of(0)), **options)


def test_the_newest_comes_back_with_its_metadata(tmp_path):
    save(tmp_path, state_of(1), state_of(2))
    state, metadata = restore(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state, state_of(2))
    assert metadata == {"text": "notes", "number": 7}


def test_nothing_saved_is_no_error(tmp_path):
    assert restore(tmp_path) is None


def test_the_same_step_is_saved_once(tmp_path):
    save(tmp_path, state_of(3))
    with Checkpoints(str(tmp_path), keep=10) as checkpoints:
        assert not checkpoints.save(3, state_of(3), {})


def test_the_newest_few_and_the_first_after_each_landmark_are_kept(tmp_path):
    steps = save(tmp_path, *(state_of(step) for step in range(3, 34, 3)), keep=2, keep_every_steps=10.0)
    assert steps == [12, 21, 30, 33]


def largest_file(directory):
    return max((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


DAMAGE = {
    "array file missing": lambda newest: largest_file(newest).unlink(),
    "array file truncated": lambda newest: largest_file(newest).write_bytes(largest_file(newest).read_bytes()[:8000]),
    "array file empty": lambda newest: largest_file(newest).write_bytes(b""),
    "index missing": lambda newest: (newest / "state" / "manifest.ocdbt").unlink(),
    "structure missing": lambda newest: (newest / "state" / "_METADATA").unlink(),
    "notes missing": lambda newest: (newest / "notes" / "metadata").unlink(),
    "notes no JSON": lambda newest: (newest / "notes" / "metadata").write_text("{"),
    "state missing": lambda newest: (newest / "state").rename(newest.parent / "elsewhere"),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_leads_to_the_one_before(damage, tmp_path, caplog):
    save(tmp_path, state_of(1), state_of(2))
    DAMAGE[damage](tmp_path / "2")
    left = sum(path.is_file() for path in tmp_path.rglob("*"))
    state, _ = restore(tmp_path)
    assert int(state["step"]) == 1
    assert f"{tmp_path / '2'} cannot be read: " in caplog.text
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == left
    assert (tmp_path / "2.damaged").is_dir()
    assert save(tmp_path, state_of(2)) == [1, 2]  # the step can be saved anew


def test_a_step_that_is_damaged_again_is_set_aside_again(tmp_path):
    save(tmp_path, state_of(1))
    for _ in range(3):
        save(tmp_path, state_of(2))
        DAMAGE["index missing"](tmp_path / "2")
        assert int(restore(tmp_path)[0]["step"]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2.damaged", "2.damaged2", "2.damaged3"}


def test_an_empty_step_directory_is_no_checkpoint(tmp_path, caplog):
    save(tmp_path, state_of(1))
    (tmp_path / "5").mkdir()
    assert int(restore(tmp_path)[0]["step"]) == 1
    assert f"{tmp_path / '5'} cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": jnp.zeros((64, 64), jnp.bfloat16)}, "params is bfloat16[64, 64], expected float32[64, 64]"),
        ({"params": jnp.zeros((64, 32), jnp.float32)}, "params is float32[64, 32], expected float32[64, 64]"),
        ({"more": jnp.zeros(3)}, "more is float32[3], expected no such array"),
    ],
)
def test_another_dtype_shape_or_structure_is_never_cast_in_silence(change, message, tmp_path, caplog):
    save(tmp_path, state_of(1), state_of(2, **change))
    assert int(restore(tmp_path)[0]["step"]) == 1
    assert message in caplog.text


def test_a_checkpoint_without_ema_is_named(tmp_path, caplog):
    state = state_of(2)
    del state["ema"]
    save(tmp_path, state_of(1), state)
    assert int(restore(tmp_path)[0]["step"]) == 1
    assert "ema is missing, expected float32[64, 64]" in caplog.text


def test_none_left_is_one_error_that_names_all(tmp_path):
    save(tmp_path, state_of(1), state_of(2))
    for step in ("1", "2"):
        DAMAGE["array file missing"](tmp_path / step)
    with pytest.raises(DataError, match=r"(?s)no checkpoint can be read:.*/2 cannot.*/1 cannot"):
        restore(tmp_path)
    assert (tmp_path / "2").is_dir()


def test_a_refusal_of_the_notes_is_not_damage(tmp_path):
    save(tmp_path, state_of(1), state_of(2))

    def refuse(metadata):
        raise ConfigError("another run")

    with pytest.raises(ConfigError, match="another run"):
        restore(tmp_path, check_metadata=refuse)
    assert (tmp_path / "2").is_dir()
