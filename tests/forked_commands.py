"""The commands as a user types them, each in a process forked from one that has imported what they share.

A start of Python with JAX and tfds takes seconds of CPU, and what it ends with depends on the arguments and the disk alone. So
one process imports what has no flags, and forks a child for each command line, which runs the module as `python -m` does. How
the interpreter itself ends is for `tests/host/test_ending.py`.
"""

import contextlib
import importlib
import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
IMPORTED = (
    *("pipeline.command", "pipeline.training.loop", "pipeline.training.scoring", "pipeline.data.preparation.datasets"),
    *("pipeline.weights.opening", "pipeline.weights.exporting", "pipeline.weights.prediction", "tensorflow"),
)


class End(NamedTuple):
    """How a command ended: its exit code, and what it wrote."""

    code: int
    stdout: str
    stderr: str


class Commands:
    """Runs command lines one after the other; see `commands`."""

    def __init__(self, server: subprocess.Popen, folder: str):
        self._server, self._folder = server, folder

    def run(self, name: str, *arguments: str, stdin: str = "") -> End:
        """Runs `python -m pipeline.NAME ARGUMENT …` in the root of the repository."""
        files = [os.path.join(self._folder, stream) for stream in ("stdin", "stdout", "stderr")]
        pathlib.Path(files[0]).write_text(stdin)
        print(json.dumps([name, arguments, files]), file=self._server.stdin, flush=True)
        code = int(self._server.stdout.readline())
        return End(code, *(pathlib.Path(file).read_text(errors="backslashreplace") for file in files[1:]))


@contextlib.contextmanager
def commands(**environment: str) -> Iterator[Commands]:
    """Yields what runs commands, with these variables of the environment besides."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.forked_commands"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server, tempfile.TemporaryDirectory() as folder:
        yield Commands(server, folder)
        server.stdin.close()


def _serve() -> None:
    warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        name, arguments, files = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(name, arguments, files)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(name: str, arguments: Sequence[str], files: Sequence[str]) -> None:
    """Runs a command in this process, which ends."""
    code = 1
    try:
        for number, (file, flags) in enumerate(zip(files, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_TRUNC] * 2))):
            os.dup2(os.open(file, flags, 0o600), number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - what the parent has read ahead is not the command's
        sys.argv = [f"pipeline/{name}.py", *arguments]
        runpy.run_module(f"pipeline.{name}", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
