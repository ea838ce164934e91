"""How commands end, in processes of their own: the code, the words, and that they end at all."""

import os
import shlex
import signal
import subprocess
import sys

import pytest

from tests.runs import ROOT

RUN = "import os, sys, threading, errno\nfrom pipeline import command\n"
OPEN_ENDED = "threading.Thread(target=threading.Event().wait).start()\n"  # a thread that the interpreter would wait for


def end_of(main: str, *, before: str = "", stdout: int = subprocess.PIPE, **options) -> subprocess.CompletedProcess:
    """Runs a command whose body is `main`."""
    code = f"{RUN}{before}def main():\n    {main}\ncommand.run(main, ['program'])\n"
    streams = {"stdout": stdout, "stderr": subprocess.PIPE, "text": True}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, **streams, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "code", "words"),
    [
        ("open('/proc/nothing/x', 'w')", 71, "Error: the system refused: [Errno 2] No such file or directory: '/proc"),
        ("raise OSError(errno.EIO, os.strerror(errno.EIO), 'shard')", 71, "Input/output error: 'shard'"),
        ("raise NotADirectoryError('Path is not a directory: /x')", 71, "Error: the system refused: Path is not a dir"),
        ("raise PermissionError('may not')", 71, "Error: the system refused: may not"),
        ("raise ValueError('FAILED: Too many open files [loc]')", 71, "Error: too many open files: FAILED"),
        ("raise ValueError('UNKNOWN: Stale file handle')", 71, "Error: the system refused: UNKNOWN: Stale file handle"),
        ("bytearray(2 ** 62)", 71, "Error: no memory left"),
        ("raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes')", 71, "Error: no memory left"),
        ("raise KeyboardInterrupt", 130, "Stopped: by Ctrl-C"),
        ("sys.exit('a library gave up')", 1, "a library gave up"),
    ],
)
def test_what_the_machine_does_is_one_line(main, code, words):
    end = end_of(main)
    assert (end.returncode, end.stdout) == (code, "")
    (line,) = end.stderr.splitlines()
    assert words in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "code"),
    [
        ("pass", 0),
        ("1 / 0", 1),
        ("raise OSError('of no kind')", 1),
        ("raise KeyboardInterrupt", 130),
        ("sys.exit(3)", 3),
        ("import asyncio; raise asyncio.CancelledError", 1),
    ],
)
def test_a_thread_that_never_ends_does_not_keep_the_process(main, code):
    end = end_of(main, before="from pipeline.host import ending\nending._PATIENCE_SECONDS = 0.1\n" + OPEN_ENDED)
    assert end.returncode == code
    assert ("ZeroDivisionError" in end.stderr) == (main == "1 / 0")


def test_a_file_name_that_is_no_text_can_be_printed():
    end = end_of(r"print('caf\udce9.jpg')", env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    assert (end.returncode, end.stdout, end.stderr) == (0, "caf\\udce9.jpg\n", "")


def test_help_is_no_error():
    end = subprocess.run([sys.executable, "-m", "pipeline.prepare", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert end.returncode == 0
    assert "--image_folder" in end.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["pipeline.model --variant b7", "pipeline.prepare --helpfull", "pipeline.model --search b0"],
)
@pytest.mark.parametrize("reads", ["head -1", "true"])
def test_a_reader_that_has_seen_enough_is_no_error(command, reads):
    line = f"{shlex.quote(sys.executable)} -m {command} | {reads}; echo ${{PIPESTATUS[0]}}"
    end = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert end.stderr == ""
    # All may have been written before the reader was gone.
    assert int(end.stdout.splitlines()[-1]) in (0, 128 + signal.SIGPIPE)


def test_more_output_than_a_pipe_holds_ends_when_nobody_reads_it():
    reading, writing = os.pipe()
    os.close(reading)
    end = end_of("[print('x' * 1000) for _ in range(1000)]", stdout=writing)
    os.close(writing)
    assert (end.returncode, end.stderr) == (128 + signal.SIGPIPE, "")


def test_closed_streams_are_no_error_and_no_files(tmp_path):
    main = f"print('x'); print('y', file=sys.stderr); os.write(2, b'z'); open({str(tmp_path / 'file')!r}, 'w').write('text')"
    code = f"{RUN}def main():\n    {main}\ncommand.run(main, ['program'])\n"
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", line], cwd=ROOT, timeout=120).returncode == 0
    assert (tmp_path / "file").read_text() == "text"


def test_a_pipe_inside_the_command_that_breaks_is_not_taken_for_the_reader():
    end = end_of("r, w = os.pipe(); os.close(r); os.write(w, b'x')")
    assert end.returncode == 71
    assert "Broken pipe" in end.stderr


def test_output_that_finds_no_room_is_one_line():
    with open("/dev/full", "w") as full:
        code = f"{RUN}command.run(lambda: print('x'), ['program'])"
        end = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert end.returncode == 71
    assert len(end.stderr.splitlines()) == 1
    assert end.stderr.startswith("Error: no room to write: ")
