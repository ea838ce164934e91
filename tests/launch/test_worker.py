"""`launch/worker.sh` by itself: what one machine of a slice answers."""

import os
import subprocess
from pathlib import Path

import pytest
from cloud import REPOSITORY


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    """The folder of attempt 1 of the run "t" on a machine whose home is `tmp_path`."""
    folder = tmp_path / ".pods" / "t" / "attempts" / "1"
    folder.mkdir(parents=True)
    return folder


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
