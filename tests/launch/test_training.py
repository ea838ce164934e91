"""The whole of it at once: `launch/tpu_pod.sh` drives a real run of four JAX processes through preemptions."""

import random
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from cloud import RUN, Cloud, running, wait_until

STEPS = 8
OVERRIDES = (
    *("--", "--config.batch_size=32", f"--config.duration={STEPS} steps", f"--config.evaluation.every={STEPS} steps"),
    *("--config.log.every=1 steps", "--config.checkpoint.every=1 steps", "--config.schedule.warmup=1 steps"),
    *("--config.log.tensorboard=False", "--config.platform=cpu"),
)
XLA_FLAGS = (
    "--xla_force_host_platform_device_count=1",
    *("--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"),  # compiles faster
    "--xla_cpu_collective_call_terminate_timeout_seconds=1800",
    "--xla_cpu_collective_timeout_seconds=1800",
)
LIMIT_SECONDS = 1800


@pytest.fixture
def real_cloud(tmp_path):
    """A service whose four machines run the real trainer, on one CPU device each, joined through a coordinator."""
    cloud = Cloud(tmp_path, trainer="real")
    cloud.machines |= {
        "FAKE_JOIN": "yes",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join(XLA_FLAGS),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_SHARE_BINARY_BETWEEN_HOSTS": "yes",  # four processes on a few cores: one of them compiles
        "PYTHONPATH": str(Path(__file__).parent / "one_compilation"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "FAKE_PYTHON": sys.executable,
    }
    cloud.write_settings(POLL_SECONDS="0.5", GRACE_SECONDS="60")
    cloud.set_scenario()
    yield cloud
    cloud.clean_up()


def final_weights(workdir) -> list[np.ndarray]:
    """The leaves of the last checkpoint's state."""
    path = workdir / "checkpoints" / str(STEPS) / "state"
    with ocp.PyTreeCheckpointer() as reader:
        arrays = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(path).item_metadata.tree
        )
        return jax.tree.leaves(reader.restore(path, restore_args=arrays))


@pytest.mark.slow
def test_preemptions_leave_no_trace_in_the_weights(real_cloud):
    """One while the code is on its way, one during set-up, one at a random step of training."""
    cloud = real_cloud
    undisturbed, disturbed = cloud.folder / "undisturbed", cloud.folder / "disturbed"
    with running(cloud.start(*RUN, "--workdir", str(undisturbed), *OVERRIDES)) as process:
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.created() == 1

    faults = [{"call": "scp", "do": "preempt during"}, {"call": "worker.sh t setup", "do": "preempt during"}]
    cloud.set_scenario(faults=faults)
    step = random.Random(0).randrange(2, STEPS - 2)
    with running(cloud.start(*RUN, "--workdir", str(disturbed), *OVERRIDES)) as process:
        wait_until((disturbed / "checkpoints" / str(step) / "commit_success.txt").exists, process, LIMIT_SECONDS)
        cloud.preempt()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.created() == 1 + 4
    assert "Continuing after step" in cloud.output()

    expected, found = final_weights(undisturbed), final_weights(disturbed)
    assert len(expected) == len(found) > 100
    for one, other in zip(expected, found):
        np.testing.assert_array_equal(one, other)
