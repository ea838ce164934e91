"""What the launcher keeps and says on the user's machine, where disks are full, homes are shared and terminals go away."""

import errno
import io
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from pod import commands, record
from pod.options import Options
from pod.plane.logs import LogFollower
from pod.record import Record
from user import refusal

LAUNCHER = Path(__file__).resolve().parents[2] / "launch" / "tpu_pod.sh"


class Stream(io.StringIO):
    """An output that fails."""

    def __init__(self, error: int):
        super().__init__()
        self._error = error

    def flush(self):
        raise OSError(self._error, os.strerror(self._error))


@pytest.fixture
def kept(tmp_path):
    return Record("t", {"POD_RECORDS": str(tmp_path)})


@contextmanager
def another(kept):
    """Another process that has the lock, as a supervisor has."""
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    words = [sys.executable, "-S", "-c", code, str(kept.folder / "lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_full_disk_and_a_terminal_that_is_gone_end_no_supervisor(kept, monkeypatch):
    (kept.folder / "events").symlink_to("/dev/full")
    kept.log("first")
    for error in (errno.ENOSPC, errno.EIO):
        monkeypatch.setattr(sys, "stderr", Stream(error))
        kept.log(f"then {error}")
        plane = Pieces([b"step 1\n", b"step 2\n"])
        LogFollower(plane, Stream(error)).follow("word", 1, 0)
        assert plane.pieces == []


def test_a_pipe_that_nobody_reads_ends_it(kept, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Stream(errno.EPIPE))
    with pytest.raises(BrokenPipeError):
        kept.log("words")
    with pytest.raises(BrokenPipeError):
        LogFollower(Pieces([b"step 1\n"]), Stream(errno.EPIPE)).follow("word", 1, 0)


class Pieces:
    """A worker's log in the bucket."""

    def __init__(self, pieces):
        self.pieces = pieces

    def workers(self, incarnation):
        return {}

    def read_log(self, *_):
        return self.pieces.pop(0) if self.pieces else None


def test_a_record_that_cannot_be_written_is_one_line(kept):
    (kept.folder / "command.partial").symlink_to("/dev/full")
    said = refusal(kept.save_command, ["--config", "c.py"], Path("/"))
    assert "No space left on device" in said
    assert "POD_RECORDS" in said


def test_without_a_home_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without HOME and without an entry in passwd
    assert "POD_RECORDS" in refusal(Record, "t", {})
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_no_other_supervisor(kept, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(record.fcntl, "flock", flock)
    said = refusal(kept.lock)
    assert "cannot be locked (No locks available)" in said
    assert "POD_RECORDS" in said


def test_down_ends_only_the_process_that_has_the_lock(kept):
    options = Options(name="t")
    options.limits = type(options.limits)(call_seconds=30)
    with another(kept) as holder, subprocess.Popen(["sleep", "600"]) as innocent:
        # The lock is that of another machine with the same home, where the number is another process.
        (kept.folder / "supervisor").write_text(str(innocent.pid))
        said = refusal(commands._end_supervisor, options, kept)
        assert f"(process {innocent.pid}) is on another machine" in said
        assert innocent.poll() is None
        commands._end_supervisor(Options(name="t", force=True), kept)
        assert innocent.poll() is None
        innocent.kill()
        (kept.folder / "supervisor").write_text(str(holder.pid))
        commands._end_supervisor(options, kept)
        assert holder.wait() == -15


@pytest.mark.parametrize(
    ("word", "broken", "how", "status", "said"),
    [
        ("--help", "stdout", "unread", 141, ""),
        ("--help", "stdout", "full", 71, "tpu_pod.sh: No space left on device\n"),
        ("bogus", "stderr", "unread", 1, ""),
        ("bogus", "stderr", "full", 1, ""),
    ],
)
def test_output_that_cannot_be_written(word, broken, how, status, said):
    if how == "unread":
        read, write = os.pipe()
        os.close(read)
    else:
        write = os.open("/dev/full", os.O_WRONLY)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, broken: write}
    done = subprocess.run([str(LAUNCHER), word], text=True, **streams)
    os.close(write)
    assert done.returncode == status
    assert (done.stderr or "") == said


def test_a_terminal_without_utf_8_sees_what_it_can():
    code = "import io, sys; sys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'ascii'); sys.argv[1:] = ['--help']\n"
    code += "sys.path.insert(0, sys.path.pop()); from pod import __main__; sys.exit(__main__.main())"
    environment = {**os.environ, "PYTHONPATH": str(LAUNCHER.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"gs://\\u2026" in done.stdout


def test_the_launcher_may_be_called_by_a_link(tmp_path):
    link = tmp_path / "a link"
    link.symlink_to(LAUNCHER)
    (tmp_path / "second").symlink_to("a link")
    done = subprocess.run([str(tmp_path / "second"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "launch/tpu_pod.sh [up]" in done.stdout
