"""A run whose terminal is closed, or whose output nobody reads any more, saves before it ends."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from pipeline.data.preparation.datasets import prepare_digits
from tests.forks import ROOT
from tests.runs import TINIEST, reported, start, wait_for, xla_flags


@pytest.fixture
def arguments(tmp_path):
    prepare_digits(str(tmp_path / "data"))
    return [
        *(f"--config={TINIEST}", f"--workdir={tmp_path}/run", f"--config.data.data_dir={tmp_path}/data"),
        *(
            "--config.duration=9999 steps",
            "--config.checkpoint.every=9999 steps",
            "--config.evaluation.every=9999 steps",
        ),
    ]


def check_saved(workdir):
    (step,) = reported(workdir, "stop", "seconds")
    assert (workdir / "checkpoints" / str(step)).is_dir()


@pytest.mark.parametrize("number", [None, signal.SIGINT])
def test_a_pipe_without_a_reader(arguments, tmp_path, number):
    """Ctrl-C ends `tee` too, and at once."""
    process = start(*arguments)
    wait_for(process, "step    3/")
    process.stdout.close()
    if number is not None:
        process.send_signal(number)
    assert process.wait(timeout=120) == 75
    check_saved(tmp_path / "run")


@pytest.mark.slow
def test_a_closed_terminal(arguments, tmp_path):
    """The system sends SIGHUP to all processes of the terminal, and writing fails."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-m", "pipeline.train", *arguments, "--config.data.workers=1"],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": xla_flags(4), "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while b"step    3/" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    assert process.wait(timeout=120) == 75
    check_saved(tmp_path / "run")


def test_a_closed_terminal_changes_nothing_under_nohup(arguments, tmp_path):
    process = start(*arguments, prefix=["nohup"])
    wait_for(process, "step    3/")
    process.send_signal(signal.SIGHUP)
    wait_for(process, "step   30/")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75
    check_saved(tmp_path / "run")
