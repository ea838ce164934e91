"""What failures of the input do to a whole run: each ends it with one clear error, and the same command goes on."""

import os
import pathlib
import shutil
import signal
import subprocess

import jax
import numpy as np
import pytest

from pipeline.data.preparation.datasets import prepare_digits
from tests.runs import TINY, run, start, state_at, wait_for

STEPS = 300
SMALL_SHARED_MEMORY = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=16k tmpfs /dev/shm && "$0" "$@"')
A_MINUTE = 60


def arguments(workdir: pathlib.Path, data_dir: pathlib.Path, workers: int) -> list[str]:
    return [
        f"--config={TINY}",
        f"--workdir={workdir}",
        f"--config.data.data_dir={data_dir}",
        f"--config.data.workers={workers}",
        f"--config.duration={STEPS} steps",
        "--config.log.every=50 steps",
        "--config.checkpoint.every=50 steps",
        "--config.evaluation.every=150 steps",
    ]


def error_of(process: subprocess.Popen) -> tuple[int, str]:
    """Waits for the end and returns the exit code and the only line of error."""
    output, _ = process.communicate(timeout=A_MINUTE)
    (error,) = [line for line in output.splitlines() if line.startswith("Error:")]
    assert "Traceback" not in output
    return process.returncode, error


def worker_of(process: subprocess.Popen) -> int:
    """Returns the process id of the data worker."""
    tasks = pathlib.Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    (worker,) = [pid for pid in children if b"spawn_main" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
    return worker


@pytest.mark.slow
def test_a_run_goes_on_after_each_failure_and_ends_with_the_bits_of_an_undisturbed_one(tmp_path):
    prepare_digits(str(tmp_path / "data"))
    command = arguments(tmp_path / "run", tmp_path / "data", workers=1)

    # A full /dev/shm, where this machine lets a test have one.
    if shutil.which("unshare") and not subprocess.run([*SMALL_SHARED_MEMORY, "true"], capture_output=True).returncode:
        code, error = error_of(start(*command, prefix=SMALL_SHARED_MEMORY))
        assert code == 71
        assert "/dev/shm is full" in error

    process = start(*command)
    wait_for(process, f"step  50/{STEPS}")
    os.kill(worker_of(process), signal.SIGKILL)
    code, error = error_of(process)
    assert code == 71
    assert "A data worker died of SIGKILL at record" in error

    process = start(*command)
    assert "Continuing after step" in wait_for(process, f"/{STEPS} ")
    shard = tmp_path / "data" / "digits" / "1.0.0" / "digits-test.array_record-00000-of-00001"
    shard.rename(tmp_path / shard.name)
    code, error = error_of(process)
    assert code == 65
    assert shard.name in error

    (tmp_path / shard.name).rename(shard)
    code, output = run(*command)
    assert code == 0, output
    assert run(*arguments(tmp_path / "undisturbed", tmp_path / "data", workers=0))[0] == 0
    jax.tree.map(
        np.testing.assert_array_equal,
        state_at(tmp_path / "run", STEPS),
        state_at(tmp_path / "undisturbed", STEPS),
    )
