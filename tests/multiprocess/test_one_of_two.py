"""What only one of two processes meets, and what becomes of both."""

import subprocess
import sys

import pytest

from tests.runs import ROOT, finish, free_port

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

CANNOT_READ = """
sharding = jax.sharding.NamedSharding(jax.make_mesh((jax.device_count(),), ("data",)), jax.sharding.PartitionSpec())

def state(step):
    return jax.jit(lambda: {"step": step + jax.numpy.zeros((), int)}, out_shardings=sharding)()

with checkpoints.Checkpoints(directory, keep=5) as run:
    for step in (1, 2):
        run.save(step, state(step), {})
check = checkpoints.Checkpoints._check_structure

def fail_at_2(self, step, abstract_state):
    if step == 2:
        raise OSError("the disk of this host is away")
    check(self, step, abstract_state)

if index == 1:
    checkpoints.Checkpoints._check_structure = fail_at_2
with checkpoints.Checkpoints(directory, keep=5) as run:
    restored, _ = run.restore_newest({"step": jax.ShapeDtypeStruct((), "int32", sharding=sharding)})
    print("restored", int(restored["step"]), "of", run.steps())
    run.save(2, state(2), {})
    print("anew", run.steps())
stopping.leave(0)
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
    commands = [[sys.executable, "-c", JOIN + source, address, str(index), *map(str, arguments)] for index in (0, 1)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return finish([subprocess.Popen(command, cwd=ROOT, **pipes) for command in commands])


@pytest.mark.slow
def test_a_checkpoint_that_one_cannot_read_is_taken_by_none(tmp_path):
    codes, outputs = run_two(CANNOT_READ, tmp_path)
    assert codes == [0, 0], "\n".join(outputs)
    for output in outputs:
        assert "restored 1 of [1]" in output
        assert "anew [1, 2]" in output
    assert "process(es) [1] cannot read it" in outputs[0]
    assert "the disk of this host is away" in outputs[1]
    assert (tmp_path / "2.damaged").is_dir()


@pytest.mark.slow
def test_the_error_of_one_is_its_exit_code_although_the_other_never_leaves(tmp_path):
    (_, code), outputs = run_two(LEAVES, tmp_path)
    assert code == 65, "\n".join(outputs)
    assert "a shard of this host is damaged" in outputs[1]
