import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from configs import quickstart
from pipeline.errors import ConfigError, DataError
from pipeline.model.network import build_model
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.training.update.optimizer import make_optimizer
from pipeline.training.update.state import create_state
from pipeline.weights import runs
from tests.configs import tiny


@functools.cache
def initial_state(num_classes):
    config = tiny.get_config()
    model, tx = build_model(config.model, num_classes), make_optimizer(config, lambda step: 0.1)
    return create_state(model, tx, image_size=8, seed=0, with_ema=True)


def save_run(workdir, *, num_classes=3, with_ema=True, steps=(4, 8), class_names=None):
    """Saves states as training does: those of step s are the initial ones plus s, their averages plus s + 100."""
    run_metadata = {
        "config": json.loads(tiny.get_config().to_json_best_effort()),
        "class_names": class_names or [f"class {label}" for label in range(num_classes)],
        "data": "0" * 16,
    }
    initial = initial_state(num_classes)
    with Checkpoints(f"{workdir}/checkpoints", keep=5) as checkpoints:
        for step in steps:
            moved, averaged = (
                jax.tree.map(lambda leaf, by=by: leaf + by, initial.raw_variables()) for by in (step, step + 100)
            )
            ema = averaged if with_ema else None
            checkpoints.save(step, initial.replace(step=jax.numpy.int32(step), ema=ema, **moved), run_metadata)
            checkpoints.wait()
    return np.asarray(initial.params["stem"]["conv"]["kernel"])


def kernel(weights):
    return weights.arrays["params/stem/conv/kernel"]


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [3, 10, 1001])
def test_averages_and_raw_weights_of_the_newest_checkpoint(tmp_path, num_classes):
    initial = save_run(tmp_path, num_classes=num_classes)
    found = runs.read(str(tmp_path))
    assert np.array_equal(kernel(found.choose()), initial + 108)
    assert np.array_equal(kernel(found.choose("raw")), initial + 8)
    metadata = found.choose().metadata
    assert (metadata.kind, metadata.step, metadata.num_classes, metadata.image_size) == ("ema", 8, num_classes, 8)
    assert metadata.class_names[2] == "class 2"
    assert metadata.preprocessing.eval_crop == quickstart.get_config().data.eval_crop


@pytest.mark.slow
@pytest.mark.parametrize("typed", [".", "../a run", "../a run/"])
def test_a_run_is_read_by_a_relative_path(tmp_path, monkeypatch, typed):
    workdir = tmp_path / "a run"
    initial = save_run(workdir)
    monkeypatch.chdir(workdir)
    assert np.array_equal(kernel(runs.read(typed).choose()), initial + 108)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "expected"), [(24, 24), (None, 8), ("not there", 8)])
def test_weights_are_meant_for_the_size_of_evaluation(tmp_path, monkeypatch, size, expected):
    """An earlier version's metadata have no such key: it evaluated at the size of training."""
    config = tiny.get_config()
    if size == "not there":
        del config.evaluation.image_size
    else:
        config.evaluation.image_size = size
    monkeypatch.setattr(tiny, "get_config", lambda: config)
    save_run(tmp_path)
    assert runs.read(str(tmp_path)).choose().metadata.image_size == expected


def test_a_run_without_averages(tmp_path):
    initial = save_run(tmp_path, with_ema=False)
    found = runs.read(str(tmp_path))
    assert found.choose().metadata.kind == "raw"
    assert np.array_equal(kernel(found.choose()), initial + 8)
    with pytest.raises(ConfigError, match="no moving averages"):
        found.choose("ema")


@pytest.mark.slow
def test_a_step_by_its_number(tmp_path):
    save_run(tmp_path)
    assert runs.read(str(tmp_path), "4").raw.metadata.step == 4
    with pytest.raises(DataError, match="no checkpoint of step 5; it has 4, 8"):
        runs.read(str(tmp_path), "5")
    with pytest.raises(ConfigError, match="neither newest, best nor a step"):
        runs.read(str(tmp_path), "newset")
    with pytest.raises(DataError, match="best does not exist"):
        runs.read(str(tmp_path), "best")


def damage(folder):
    for path in folder.rglob("*"):
        if path.is_file() and path.parent.name in ("d", "state"):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path, caplog):
    save_run(tmp_path)
    damage(tmp_path / "checkpoints" / "8" / "state")
    assert runs.read(str(tmp_path)).raw.metadata.step == 4
    assert "checkpoints/8 cannot be read" in caplog.text
    with pytest.raises(DataError, match="checkpoints/8 cannot be read"):
        runs.read(str(tmp_path), "8")
    damage(tmp_path / "checkpoints" / "4" / "state")
    with pytest.raises(DataError, match="checkpoints/4 cannot be read"):
        runs.read(str(tmp_path))


def test_before_the_first_checkpoint(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match="no checkpoint has been saved there"):
        runs.read(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(DataError, match="holds no checkpoint yet"):
        runs.read(str(tmp_path))
    with pytest.raises(DataError, match="is not a run"):
        runs.read(str(tmp_path / "elsewhere"))


def test_one_class_is_one_error(tmp_path):
    """No run of this project has one class, but metadata may be edited."""
    save_run(tmp_path, class_names=["only"])
    with pytest.raises(DataError, match="num_classes is 1"):
        runs.read(str(tmp_path))


def test_mixing_is_refused(tmp_path):
    """A state whose averages lack the BatchNorm statistics gives an error and no mixture."""
    save_run(tmp_path)
    found = runs.read(str(tmp_path)).choose()
    arrays = {path: array for path, array in found.arrays.items() if path.startswith("params/")}
    with pytest.raises(DataError, match="batch_stats/stem/bn/mean"):
        dataclasses.replace(found, arrays=arrays)
