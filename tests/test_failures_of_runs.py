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
from tests.runs import TINIEST, run, start, state_at, wait_for

TINY_STEPS = 12
STEPS = 300
SMALL_SHARED_MEMORY = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=16k tmpfs /dev/shm && "$0" "$@"')
LIMIT_SECONDS = 600  # also on a machine that does much else


def arguments(workdir: pathlib.Path, data_dir: pathlib.Path, workers: int) -> list[str]:
    return [
        f"--config={TINIEST}",
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
    output, _ = process.communicate(timeout=LIMIT_SECONDS)
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


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare_digits(str(directory))
    return directory


@pytest.mark.parametrize(
    ("argument", "code", "message"),
    [
        ("--config.init_from=/no/such/weights", 65, "/no/such/weights does not exist"),
        ("--config.finetune.frozen_stages=9", 78, "config.finetune.frozen_stages=9"),
        ("--config.model.variant=b99", 78, "b99"),
        ("--config.seed=-1", 78, "config.seed is -1; expected a whole number"),
    ],
)
def test_a_start_that_is_refused_leaves_nothing(argument, code, message, tmp_path, data_dir):
    workdir = tmp_path / "runs" / "refused"
    status, output = run(f"--config={TINIEST}", f"--workdir={workdir}", f"--config.data.data_dir={data_dir}", argument)
    assert status == code, output
    assert message in output.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_a_run_continues_with_is_said_and_what_cannot_continue_is_no_damage(tmp_path, data_dir):
    command = (f"--config={TINIEST}", f"--workdir={tmp_path}", f"--config.data.data_dir={data_dir}")
    command += ("--config.log.tensorboard=False",)
    assert run(*command)[0] == 0
    switches = ("--config.resume_changed=True", "--config.resume_changed_data=True", "--config.duration=14 steps")
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    for change in ("--config.ema.decay=0.0", "--config.model.variant=mini0"):
        status, output = run(*command, *switches, change)
        assert status == 78, output
        assert "whose state has another structure" in output.splitlines()[-1]
        assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before

    other_data = "--config.data.train_split=train[:1000]"
    status, output = run(*command, *switches[:1], *switches[2:], "--config.seed=1", other_data)
    assert status == 78, output
    assert "--config.resume_changed_data=True" in output.splitlines()[-1]
    status, output = run(*command, *switches, "--config.seed=1", other_data)
    assert status == 0, output
    assert "Continuing with another configuration: config.seed: 0 became 1" in output
    assert f"config.duration: '{TINY_STEPS} steps' became '14 steps'" in output
    assert "Continuing on other data: fingerprint" in output
    assert "Continuing after step 12." in output
