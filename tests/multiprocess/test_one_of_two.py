"""What only one of two processes meets, and what becomes of both."""

import os

import pytest

from tests.forks import Fork
from tests.runs import finish, free_port

JOIN = """
import sys
import jax
from jax.experimental import multihost_utils
from pipeline import command
from pipeline.errors import DataError
from pipeline.runtime import checkpoints, distributed, stopping

address, index, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
distributed.initialize(address, 2, index, peer_seconds=20)
"""

READ = """
from pipeline.storage import storage_errors

error, times = {"damage": (ValueError("no such array"), 9), "away": (OSError(5, "Input/output error"), 99),
                "away for a moment": (OSError(5, "Input/output error"), 2)}[sys.argv[4]]
storage_errors.PAUSES_SECONDS = (0.0, 0.0, 0.0)
sharding = jax.sharding.NamedSharding(jax.make_mesh((jax.device_count(),), ("data",)), jax.sharding.PartitionSpec())

def state(step):
    return jax.jit(lambda: {"step": step + jax.numpy.zeros((), int)}, out_shardings=sharding)()

with checkpoints.Checkpoints(directory, keep=5) as run:
    for step in (1, 2):
        run.save(step, state(step), {})
check = checkpoints.Checkpoints._check_structure
left = [error] * times

def fail_at_2(self, step, abstract_state):
    if step == 2 and left:
        raise left.pop()
    check(self, step, abstract_state)

if index == 1:
    checkpoints.Checkpoints._check_structure = fail_at_2

def restore():
    with checkpoints.Checkpoints(directory, keep=5) as run:
        restored, _ = run.restore_newest({"step": jax.ShapeDtypeStruct((), "int32", sharding=sharding)})
        print("restored", int(restored["step"]), "of", run.steps())
        run.save(2, state(2), {})
        print("anew", run.steps())

command.run(restore, ["program"], leave=stopping.leave)
"""

LEAVES = """
def fail():
    if index == 1:
        raise DataError("a shard of this host is damaged")
    multihost_utils.sync_global_devices("the other never comes")

command.run(fail, ["program"], leave=stopping.leave)
"""


def run_two(source: str, *arguments) -> tuple[list[int], list[str]]:
    """Runs the code in two processes and returns their exit codes and outputs."""
    address = f"localhost:{free_port()}"
    commands = [["-c", JOIN + source, address, str(index), *map(str, arguments)] for index in (0, 1)]
    return finish([Fork(command, dict(os.environ)) for command in commands])


@pytest.mark.slow
def test_a_checkpoint_that_is_damaged_for_one_is_taken_by_none(tmp_path):
    codes, outputs = run_two(READ, tmp_path, "damage")
    assert codes == [0, 0], "\n".join(outputs)
    for output in outputs:
        assert "restored 1 of [1]" in output
        assert "anew [1, 2]" in output
    assert "process(es) [1] cannot read it" in outputs[0]
    assert "no such array" in outputs[1]
    assert (tmp_path / "2.damaged").is_dir()


@pytest.mark.slow
def test_storage_that_fails_one_ends_both_and_renames_nothing(tmp_path):
    codes, outputs = run_two(READ, tmp_path, "away")
    assert codes == [71, 71], "\n".join(outputs)
    assert "process(es) [1] cannot read it" in outputs[0]
    assert "Input/output error" in outputs[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


@pytest.mark.slow
def test_storage_that_fails_one_for_a_moment_changes_nothing(tmp_path):
    codes, outputs = run_two(READ, tmp_path, "away for a moment")
    assert codes == [0, 0], "\n".join(outputs)
    assert all("restored 2 of [1, 2]" in output for output in outputs)


@pytest.mark.slow
def test_the_error_of_one_is_its_exit_code_although_the_other_never_leaves(tmp_path):
    (_, code), outputs = run_two(LEAVES, tmp_path)
    assert code == 65, "\n".join(outputs)
    assert "a shard of this host is damaged" in outputs[1]
