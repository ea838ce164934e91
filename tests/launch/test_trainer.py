"""The trainer's process on one machine: started once, found again, asked once, and how it ended."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cloud.services import wait_until
from pod.worker.log_pieces import BACKLOG_BYTES, PIECE_BYTES, PIECES_AT_ONCE, LogPieces, Progress, tail
from pod.worker.trainer import Attempts

LAUNCH = Path(__file__).parents[2] / "launch"
SLEEPER = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saving", flush=True), sys.exit(75)))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def attempts(tmp_path):
    made = Attempts(tmp_path / "attempts")
    yield made
    newest = made.newest()
    if newest is not None:
        newest.kill()


def start(attempts, code: str, number: int = 1, **environment):
    return attempts.start(number, [sys.executable, "-c", code], environment, Path.cwd())


def end(attempt):
    wait_until(lambda: attempt.ended() is not None)
    return attempt.ended().exit_code


@pytest.mark.parametrize(
    ("code", "status"), [("", 0), ("raise SystemExit(78)", 78), ("import os; os.kill(os.getpid(), 11)", 139)]
)
def test_how_it_ended(attempts, code, status):
    assert attempts.newest() is None
    attempt = start(attempts, code)
    assert end(attempt) == status
    assert attempts.newest().number == 1


def test_it_is_started_once(attempts, tmp_path):
    """An agent may die just after it started one, and the next agent start another."""
    code = f"open({str(tmp_path / 'starts')!r}, 'a').write('x')"
    folder = attempts.get(1).folder
    folder.mkdir()
    (folder / "start.json").write_text(json.dumps({"command": [sys.executable, "-c", code], "folder": str(tmp_path)}))
    command = [sys.executable, "-m", "pod.worker.trainer", str(folder)]
    parents = [subprocess.Popen(command, cwd=LAUNCH) for _ in range(4)]
    assert [parent.wait() for parent in parents] == [0] * 4
    assert end(start(attempts, code)) == 0
    assert (tmp_path / "starts").read_text() == "x"


def test_its_environment_and_its_log(attempts):
    attempt = start(attempts, "import os, sys; print(os.environ['A'], file=sys.stderr)", A="é \n'")
    assert end(attempt) == 0
    assert attempt.log.read_text() == "é \n'\n"


def test_it_may_open_many_files(attempts):
    code = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))  # as on many machines
    try:
        attempt = start(attempts, code)
        assert end(attempt) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert int(attempt.log.read_text().split()[0]) >= min(100_000, hard)


def test_a_program_that_is_not_there(attempts):
    attempt = attempts.start(1, ["/no/such/program"], {}, Path.cwd())
    assert end(attempt) == 127
    assert "cannot start the trainer" in attempt.log.read_text()


def test_it_is_asked_once_and_its_children_end_with_it(attempts):
    attempt = start(attempts, SLEEPER)
    wait_until(lambda: attempt.log.read_text().endswith("\n"))
    child = int(attempt.log.read_text())
    again = Attempts(attempt.folder.parent).newest()  # as an agent that starts anew finds it
    assert again.is_running()
    assert again.ended() is None
    assert [again.ask_to_stop(), attempt.ask_to_stop()] == [True, False]
    assert end(again) == 75
    wait_until(lambda: not Path(f"/proc/{child}").exists() or _is_zombie(child))


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")


def test_its_parent_is_killed_and_then_it_ends(attempts):
    attempt = start(attempts, SLEEPER)
    parents = subprocess.run(
        ["pgrep", "-f", f"pod.worker.trainer {attempt.folder}"], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(parents[0]), signal.SIGKILL)
    wait_until(lambda: not attempt._has_parent())
    assert attempt.is_running(), "the trainer is known by its number and start time"
    attempt.kill()
    assert end(attempt) is None
    assert attempt.ended() == attempt.ended(), "the time is that of the first look"


def test_a_number_that_belongs_to_another_process_now(attempts):
    attempt = start(attempts, "")
    end(attempt)
    (attempt.folder / "status").unlink()
    noted = (attempt.folder / "pid").read_text()
    own = f'{{"pid": {os.getpid()}, '
    (attempt.folder / "pid").write_text(own + noted.partition(", ")[2])
    assert not attempt.is_running()
    assert not attempt.ask_to_stop()


def test_a_file_that_is_half_written_after_a_power_cut(attempts):
    attempt = start(attempts, "")
    end(attempt)
    (attempt.folder / "status").write_text("")
    assert attempt.ended().exit_code is None


class Bucket:
    """Pieces, as they are written."""

    def __init__(self):
        self.pieces, self.broken = {}, False

    def write(self, number: int, content: bytes) -> None:
        if self.broken:
            raise ConnectionError
        self.pieces[number] = content

    @property
    def text(self) -> bytes:
        return b"".join(self.pieces[number] for number in sorted(self.pieces))


def test_a_full_disk_does_not_silence_an_agent(tmp_path):
    log, bucket = tmp_path / "log", Bucket()
    (tmp_path / "sent.partial").symlink_to("/dev/full")
    pieces = LogPieces(log, bucket.write)
    for text in (b"one\n", b"two\n"):
        with log.open("ab") as file:
            file.write(text)
        assert pieces.send()
    assert (pieces.pieces, bucket.text) == (2, b"one\ntwo\n")


def test_a_log_arrives_whole_and_in_order(tmp_path):
    log, bucket = tmp_path / "log", Bucket()
    pieces = LogPieces(log, bucket.write)
    assert pieces.send()
    written = b""
    for number in range(50):
        line = b"%d %s\n" % (number, b"x" * 999)
        with log.open("ab") as file:
            file.write(line[:500])
        pieces.send()
        bucket.broken = number % 7 == 3
        with log.open("ab") as file:
            file.write(line[500:])
        written += line
        if bucket.broken:
            with pytest.raises(ConnectionError):
                pieces.send()
            pieces = LogPieces(log, bucket.write)  # an agent that starts anew
        else:
            pieces.send()
        assert written.startswith(bucket.text)
        assert bucket.text == b"" or bucket.text.endswith(b"\n")
        bucket.broken = False
    with log.open("ab") as file:
        file.write(b"the end, without a line's end")
    pieces.send()
    assert bucket.text == written
    pieces.send(last=True)
    assert bucket.text == written + b"the end, without a line's end"
    assert sorted(bucket.pieces) == list(range(pieces.pieces))


def test_a_log_that_grows_too_fast_loses_its_middle(tmp_path):
    log, bucket = tmp_path / "log", Bucket()
    line = b"y" * 99 + b"\n"
    log.write_bytes(b"first\n" + line * (2 * BACKLOG_BYTES // 100) + b"last\n")
    pieces = LogPieces(log, bucket.write)
    assert not pieces.send()
    assert len(bucket.pieces) == PIECES_AT_ONCE
    while not pieces.send():
        pass
    assert b"bytes are left out here" in bucket.pieces[0]
    assert bucket.text.endswith(b"last\n")
    assert len(bucket.text) < BACKLOG_BYTES
    assert max(map(len, bucket.pieces.values())) < PIECE_BYTES + 300


def test_only_the_end_of_a_log_is_sent(tmp_path):
    log, bucket = tmp_path / "log", Bucket()
    pieces = LogPieces(log, bucket.write, behind=10)
    log.write_bytes(b"a\n" * 1000)
    pieces.send()
    assert bucket.text == b"a\n" * 5
    with log.open("ab") as file:
        file.write(b"b\n" * 10)
    pieces.send()
    assert bucket.text == b"a\n" * 5 + b"b\n" * 10
    log.write_bytes(b"a\n" * 1000)
    assert tail(log, 4) == "a\na\n"


def test_progress_is_read_as_the_log_grows(tmp_path):
    log = tmp_path / "log"
    progress = Progress(log)
    assert progress.read() == 0
    line = "step  1,200/20000  epoch   0.96  loss 6.9\n"  # as pipeline/reporting/reporter.py has it
    for part in (line[:9], line[9:], "evaluation at step 9999, ema weights\nstep 900/20000  epoch\n"):
        with log.open("a") as file:
            file.write(part)
        progress.read()
    assert progress.step == 1200
