"""What the trials of a study are started with."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from pipeline.trials.running import TRAINER, Machine
from tests.forks import ROOT
from tests.runs import TINIEST, wait_for


@pytest.mark.parametrize("platforms", [{}, {"JAX_PLATFORMS": "cpu"}])
def test_trials_on_cpus_keep_their_memory_as_runs_of_the_launcher_do(platforms):
    script = "source launch/lib/devices.sh; prepare_cpu_devices 1; echo $GLIBC_TUNABLES"
    launcher = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=platforms, check=True, capture_output=True, text=True
    )
    assert Machine(1, (), platforms).environment_of(0)["GLIBC_TUNABLES"] == launcher.stdout.strip()


def test_what_the_user_set_is_kept_and_other_devices_are_left_alone():
    users = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}
    assert Machine(1, (), users).environment_of(0)["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=2"
    assert "GLIBC_TUNABLES" not in Machine(1, (), {"JAX_PLATFORMS": "tpu"}).environment_of(0)


def test_each_of_the_trials_at_a_time_has_its_gpu():
    machine = Machine(2, ("0", "3"), {"JAX_PLATFORMS": "cuda"})
    assert [machine.environment_of(slot)["CUDA_VISIBLE_DEVICES"] for slot in (0, 1)] == ["0", "3"]


@pytest.mark.slow
def test_a_trial_ends_with_its_study(tmp_path):
    """The stream ends when the last process that has it does."""
    trial = [
        sys.executable,
        *TRAINER,
        f"--config={TINIEST}",
        f"--workdir={tmp_path}/run",
        "--config.duration=9999 steps",
    ]
    study = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({trial!r})"],
        cwd=ROOT,
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(study, "Opening digits")
        study.kill()
        assert "Results are in" not in study.communicate(timeout=60)[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(study.pid, signal.SIGKILL)
