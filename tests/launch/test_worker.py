"""`launch/worker.sh` by itself: what one machine of a slice answers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cloud import REPOSITORY, wait_until


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    """The folder of attempt 1 of the run "t" on a machine whose home is `tmp_path`."""
    folder = tmp_path / ".pods" / "t" / "attempts" / "1"
    folder.mkdir(parents=True)
    return folder


# Saves for a second when it is asked to stop, and leaves unsaved when it is asked again, as the real trainer does.
SAVING_TRAINER = """
import os, signal, sys, time
def stop(*_):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    print("saving", flush=True)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        time.sleep(0.02)
    os._exit(75)
signal.signal(signal.SIGTERM, stop)
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def start_saving_trainer(attempt: Path, *arguments: str) -> None:
    """Starts attempt 1 with a trainer that takes a second to save."""
    home = attempt.parents[1]
    attempt.rmdir()
    (home / "code" / "pipeline").mkdir(parents=True)
    (home / "code" / "launch").symlink_to(REPOSITORY / "launch")
    (home / "code" / "pipeline" / "train.py").write_text(SAVING_TRAINER)
    (home / ".venv" / "bin").mkdir(parents=True)
    python = home / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    assert worker(attempt, "start", "1", "key", *arguments) == "pod: state running 1 key\n"
    wait_until(lambda: "ready" in (attempt / "log").read_text(), seconds=30)


def worker(attempt: Path, *arguments: str) -> str:
    """Runs one command of the worker as the supervisor does; returns what it printed."""
    environment = os.environ | {"HOME": str(attempt.parents[3])}
    command = ["bash", str(REPOSITORY / "launch" / "worker.sh"), "t", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_long_log_is_read_piece_by_piece_from_its_beginning(attempt):
    """A supervisor that joins a job of days has all of its log before it."""
    log = "".join(f"line {number:58}\n" for number in range(500_000 // 64))
    (attempt / "log").write_text(log)
    offset, pieces = 0, []
    while offset < len(log):
        piece, _, answer = worker(attempt, "read", "1", str(offset), "65536").rpartition("pod: offset ")
        assert offset < int(answer) <= offset + 65536
        offset = int(answer)
        pieces.append(piece)
    assert "".join(pieces) == log
    assert worker(attempt, "read", "1", str(offset), "65536") == f"pod: offset {offset}\n"


def test_an_unfinished_line_does_not_swallow_the_answer(attempt):
    (attempt / "log").write_text("step 1 of")
    assert worker(attempt, "read", "1", "5", "65536") == "1 of\npod: offset 9\n"


def test_a_job_that_is_saving_is_not_asked_again(attempt):
    """By the user once more, by gcloud after a broken connection, or by the supervisor when another worker failed."""
    start_saving_trainer(attempt)
    command = ["bash", str(REPOSITORY / "launch" / "worker.sh"), "t", "stop", "30", "mark"]
    with subprocess.Popen(command, env=os.environ | {"HOME": str(attempt.parents[3])}, stdout=subprocess.PIPE) as first:
        wait_until(lambda: "saving" in (attempt / "log").read_text(), seconds=30)
        answer = worker(attempt, "stop", "30")
        assert first.communicate()[0].decode() == answer
    assert answer.split()[:5] == ["pod:", "state", "exited", "1", "75"]
    assert answer.endswith(" key stopped\n")


def test_a_job_that_does_not_end_when_asked_is_ended(attempt):
    start_saving_trainer(attempt, "deaf")
    begin = time.monotonic()
    assert worker(attempt, "stop", "1").split()[:5] == ["pod:", "state", "exited", "1", "137"]
    assert time.monotonic() - begin >= 1
