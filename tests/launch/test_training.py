"""The whole of it at once: `launch/tpu_pod.sh` drives a real run of four JAX processes through all that can happen to it."""

import os
import random
import re
import threading

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from cloud.bed import REPOSITORY
from cloud.server import Fault
from cloud.services import wait_until

STEPS, SAVED_EVERY = 16, 2
RUN = ("up", "--config", "configs/tiny.py", "--name", "t", "--type", "v3-32", "--yes")
OVERRIDES = (
    *("--", "--config.batch_size=32", f"--config.duration={STEPS} steps", f"--config.evaluation.every={STEPS} steps"),
    *("--config.log.every=1 steps", f"--config.checkpoint.every={SAVED_EVERY} steps"),
    *(f"--config.checkpoint.keep={STEPS}", "--config.model.variant=tiniest"),
    *("--config.schedule.warmup=1 steps", "--config.log.tensorboard=False", "--config.platform=cpu"),
)
XLA_FLAGS = (
    "--xla_force_host_platform_device_count=1",
    *("--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"),  # compiles faster
    "--xla_cpu_collective_call_terminate_timeout_seconds=1800",
    "--xla_cpu_collective_timeout_seconds=1800",
)
LIMIT_SECONDS = 1800


@pytest.fixture
def real_cloud(make_cloud, tmp_path):
    """A cloud whose machines run the real trainer on one CPU device each, with a small network, joined by a coordinator.

    The trainers are forked from a process that has imported the same code: see `tests/trainers.py`.
    """
    cloud = make_cloud(trainer="real")
    cloud.machines.settings |= {
        "BED_JOIN": "yes",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join(XLA_FLAGS),
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_SHARE_BINARY_BETWEEN_HOSTS": "yes",  # four processes on a few cores: one of them compiles
        "PYTHONPATH": str(REPOSITORY / "tests" / "one_compilation"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    cloud.write_settings(POLL_SECONDS="1", GRACE_SECONDS="5", SETUP_SECONDS="30", HEARTBEAT_SECONDS="30")
    return cloud


def saved_weights(workdir, step: int) -> list[np.ndarray]:
    """The leaves of a checkpoint's state."""
    path = workdir / "checkpoints" / str(step) / "state"
    with ocp.PyTreeCheckpointer() as reader:
        arrays = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(path).item_metadata.tree
        )
        return jax.tree.leaves(reader.restore(path, restore_args=arrays))


@pytest.mark.slow
def test_nothing_that_happens_leaves_a_trace_in_the_weights(real_cloud):
    """Slice 0 is taken back while it fetches its code and slice 1 during its set-up, a worker of slice 2 never answers, the
    TPU of slice 3 does not initialise, slice 4 is taken back at a random step, and on slice 5 a worker reboots.
    """
    cloud = real_cloud
    undisturbed, disturbed = cloud.folder / "undisturbed", cloud.folder / "disturbed"
    with cloud.running(*RUN, "--workdir", str(undisturbed), *OVERRIDES) as process:
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.tpu.created == 1

    def preempt(_) -> None:
        threading.Thread(target=cloud.tpu.preempt).start()

    cloud.server.faults = [Fault("worker GET .*code-", after=preempt)]
    (cloud.trainer / "hold-setup-2").touch()
    cloud.machines.silent = {(3, 2)}
    (cloud.trainer / "sick-4").touch()
    step = random.Random(0).randrange(SAVED_EVERY, STEPS // 2, SAVED_EVERY)

    def saved(number: int):
        return (disturbed / "checkpoints" / str(number) / "commit_success.txt").exists

    with cloud.running(*RUN, "--workdir", str(disturbed), *OVERRIDES) as process:
        wait_until((cloud.trainer / "in-setup-2-1").exists, LIMIT_SECONDS, process)
        cloud.tpu.preempt()
        wait_until(saved(step), LIMIT_SECONDS, process)
        cloud.tpu.preempt()
        newest = max(number for number in range(STEPS) if saved(number)())
        wait_until(saved(newest + SAVED_EVERY), LIMIT_SECONDS, process)
        cloud.machines.reboot("t", 1)
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    said = cloud.output()
    taken = re.findall(r"unusable \((SUSPEND\w+ by the service: the machines were taken back|PREEMPTED)\)", said)
    assert len(taken) == 3, said  # whether the request or the node says so first, is chance
    for words in ("worker 2 has not answered yet", "the TPU does not come up", "restart 1 of"):
        assert words in said
    # The report of a failure repeats the last lines that the trainer printed.
    continued = sorted({int(number) for number in re.findall(r"Continuing after step (\d+)", said)})
    assert len(continued) == 2
    assert step <= continued[0] < newest + SAVED_EVERY <= continued[1]
    assert cloud.tpu.created == 1 + 6
    assert cloud.nothing_left()

    early, expected = saved_weights(undisturbed, SAVED_EVERY), saved_weights(undisturbed, STEPS)
    assert sum(not np.array_equal(one, other) for one, other in zip(early, expected)) > 100  # so that they could differ
    found = saved_weights(disturbed, STEPS)
    assert len(expected) == len(found) > 100
    for one, other in zip(expected, found):
        np.testing.assert_array_equal(one, other)
