"""Processes of Python that begin with everything imported; they look like those of `subprocess`.

Owns one `fork_server.py` for each set of variables that matter while modules are imported, until the tests are over. A process
that was forked is a true one: it is killed, waited for and read like any other, and its start is only shorter.
"""

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading

from tests.fork_server import ROOM_FOR_VARIABLES, ROOT

_ROOM_BYTES = 1 << 16  # for the variables of a fork
_READ_AT_IMPORT = ("JAX_", "PYTHON", "TF_")  # beginnings of names
_STARTING = threading.Lock()


class Fork:
    """`python -m module …` or `python -c code …`, forked from a process that has imported much of it.

    Args:
      arguments: Of the interpreter: "-m" or "-c" and what comes after.
      environment: All its variables.
      cwd: Its working directory, a checkout of the same code.
      start_new_session: Whether it leads a session, and so a group of processes, of its own.
      stdin: The descriptor of its input; without it there is none.
      outputs: Descriptors that stdout and stderr go to; without them they are one text stream, `stdout`.

    Attributes:
      returncode: As that of `subprocess.Popen`, once somebody has waited or asked.
    """

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        *,
        cwd: str | os.PathLike = ROOT,
        start_new_session: bool = False,
        stdin: int | None = None,
        outputs: tuple[int, int] | None = None,
    ):
        self.args = arguments
        self.returncode = None
        self.stdout = None
        request = {
            "arguments": arguments,
            "environment": environment,
            "folder": os.fspath(cwd),
            "leads": start_new_session,
        }
        with _STARTING:
            server = _server(
                tuple(sorted((key, value) for key, value in environment.items() if key.startswith(_READ_AT_IMPORT)))
            )
        reading, answer = os.pipe()
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(os.close, answer)
            if stdin is None:
                stdin = os.open(os.devnull, os.O_RDONLY)
                cleanup.callback(os.close, stdin)
            if outputs is None:
                stream, output = os.pipe()
                cleanup.callback(os.close, output)
                self.stdout = os.fdopen(stream, encoding="utf-8")
                outputs = (output, output)
            socket.send_fds(server, [json.dumps(request).encode()], [stdin, *outputs, answer])
        self._answers = os.fdopen(reading, "rb", buffering=0)
        self.pid = self._number()

    def poll(self) -> int | None:
        """Returns the code if the process has ended."""
        if self.returncode is None and select.select([self._answers], [], [], 0)[0]:
            self.returncode = self._number()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Returns the code when the process has ended.

        Raises:
          subprocess.TimeoutExpired: it has not after so many seconds.
        """
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = self._number()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Waits for the end of the output and of the process; returns what was not read yet."""
        read = []
        reader = threading.Thread(target=lambda: read.append(self.stdout.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        if reader.is_alive():
            raise subprocess.TimeoutExpired(self.args, timeout)
        self.stdout.close()
        self.wait(timeout)
        return read[0], None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def fileno(self) -> int:
        """The descriptor that can be read from when the process has ended, for `select`."""
        return self._answers.fileno()

    def _number(self) -> int:
        line = b""
        while not line.endswith(b"\n"):
            line += (byte := self._answers.read(1))
            if not byte:
                raise RuntimeError("the server of forks has ended")
        return int(line)


def run(*arguments: str, text: bytes = b"", **environment: str) -> subprocess.CompletedProcess:
    """Runs a command to its end, with `text` as its input, and returns its code, stdout and stderr."""
    with contextlib.ExitStack() as cleanup:
        stdin, *outputs = files = [cleanup.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        stdin.write(text)
        stdin.seek(0)
        process = Fork(
            list(arguments),
            {**os.environ, **environment},
            stdin=stdin.fileno(),
            outputs=tuple(file.fileno() for file in outputs),
        )
        try:
            process.wait(timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        for file in files:
            file.seek(0)
        said = [file.read().decode() for file in outputs]
        return subprocess.CompletedProcess(process.args, process.returncode, *said)


@functools.cache
def _server(variables: tuple[tuple[str, str], ...]) -> socket.socket:
    """Starts a server whose imports see these variables, and returns the connection to it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(_READ_AT_IMPORT)}
    with its:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(its.fileno())],
            cwd=ROOT,
            env=environment | dict(variables) | {ROOM_FOR_VARIABLES: " " * _ROOM_BYTES},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # as the streams of those that it forks are seldom files that can be sought in
            stderr=subprocess.STDOUT,
            pass_fds=[its.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours
