"""What the trials of a study are started with."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from etils import epath

from pipeline.errors import Preempted
from pipeline.model.variants import ScaledVariant
from pipeline.trials import running
from pipeline.trials.running import TRAINER, Machine
from pipeline.trials.trials import Trial
from tests.forks import ROOT
from tests.runs import TINIEST, wait_for, wait_until


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


SAVING = """
import pathlib, signal, sys, time

def save(*_):
    time.sleep(1)
    (workdir / "saved").touch()
    sys.exit(75)

workdir = pathlib.Path(sys.argv[1])
workdir.mkdir()
signal.signal(signal.SIGTERM, save)
(workdir / "ready").touch()
time.sleep(600)
"""


def test_a_closed_terminal_lets_the_trials_save(tmp_path, monkeypatch):
    """Shells pass its SIGHUP on once more, and systemd sends a SIGTERM along."""
    trial = Trial(ScaledVariant.parse("mini0"), 0)
    workdir = trial.workdir(epath.Path(tmp_path))
    monkeypatch.setattr(running, "TRAINER", ("-c", SAVING))

    def close():
        while not (workdir / "ready").exists():
            time.sleep(0.01)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            signal.pthread_kill(threading.main_thread().ident, number)  # the kernel might choose this thread

    threading.Thread(target=close).start()
    before = signal.getsignal(signal.SIGHUP)
    machine = Machine(1, (), dict(os.environ))
    with pytest.raises(Preempted):
        running.run_all(iter([trial]).__next__, epath.Path(tmp_path), lambda _: [str(workdir)], machine, None)
    assert (workdir / "saved").exists()
    assert signal.getsignal(signal.SIGHUP) == before


STUDY = f"""
import sys
from etils import epath
from pipeline.model.variants import ScaledVariant
from pipeline.trials import running
from pipeline.trials.trials import Trial

trial, study = Trial(ScaledVariant.parse("mini0"), 0), epath.Path(sys.argv[1])
running.TRAINER = ("-c", {SAVING!r})
machine = running.Machine(1, (), {{}})
running.run_all(iter([trial]).__next__, study, lambda _: [str(trial.workdir(study))], machine, None)
"""


def test_ctrl_z_suspends_the_trials_too(tmp_path):
    study = subprocess.Popen([sys.executable, "-c", STUDY, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: any(tmp_path.glob("trials/*/ready")), [study])
        children = pathlib.Path(f"/proc/{study.pid}/task/{study.pid}/children").read_text().split()

        def states():
            stats = [pathlib.Path(f"/proc/{pid}/stat").read_text() for pid in (study.pid, *children)]
            return [stat.rpartition(")")[2].split()[0] for stat in stats]

        assert len(children) == 1
        study.send_signal(signal.SIGTSTP)
        assert wait_until(lambda: states() == ["T", "T"], [study])
        study.send_signal(signal.SIGCONT)
        assert wait_until(lambda: "T" not in states(), [study])
        study.terminate()
        study.wait(timeout=60)
        assert any(tmp_path.glob("trials/*/saved"))
    finally:
        study.kill()


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
