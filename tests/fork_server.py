"""Forks processes that have imported everything: a program of the tests, for those that start many others.

A start of the trainer imports for as long as it then does everything else in a run of the tests. This program imports once and
forks itself for each start. What it forks is a process like any other, with its own signals, environment, output and end, and
takes no device before the fork, because threads and devices do not survive one. The code is that of this checkout; in another
folder it refuses to run if the code there is different. `forks.py` is the only one who talks to it: a request is a JSON object
beside four descriptors: stdin, stdout, stderr, and one for the answers, the process id and then the exit code, a line each.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pathlib
import runpy
import selectors
import signal
import socket
import sys
import types
import warnings

# What trainers and the commands for weights import.
PRELOADED = (
    "absl.app",
    "jax.experimental.multihost_utils",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pipeline.command",
    "pipeline.reporting.tensorboard",
    "pipeline.training.loop",
    "pipeline.weights.exporting",
    "pipeline.weights.opening",
    "pipeline.weights.prediction",
)
LONGEST_REQUEST = 1 << 20
ROOM_FOR_VARIABLES = "FORKS_ROOM"  # a long variable of this program
ROOT = pathlib.Path(__file__).resolve().parent.parent


def serve(connection: socket.socket) -> dict | None:
    """Answers requests until nobody can make one; returns None then, and the request in each process that it forked."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing)
    answers = {}
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(reading, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == reading:
                    os.read(reading, 64)
                    _tell_of_ends(answers)
                    continue
                request, descriptors, *_ = socket.recv_fds(connection, LONGEST_REQUEST, 4)
                if not request:
                    return None
                *streams, answer = descriptors
                with warnings.catch_warnings(
                    action="ignore"
                ):  # JAX warns at each fork; its threads begin with a device
                    process = os.fork()
                if process == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for descriptor in (reading, writing, answer, *answers.values(), connection.detach()):
                        os.close(descriptor)
                    for number, descriptor in enumerate(streams):
                        os.dup2(descriptor, number)
                        os.close(descriptor)
                    return json.loads(request)
                for descriptor in streams:
                    os.close(descriptor)
                answers[process] = answer
                _tell(answer, process)


def _tell_of_ends(answers: dict[int, int]) -> None:
    while answers:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process == 0:
            return
        answer = answers.pop(process)
        _tell(answer, os.waitstatus_to_exitcode(status))
        os.close(answer)


def _tell(answer: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits for this process
        os.write(answer, b"%d\n" % number)


def become(request: dict) -> None:
    """Runs the command of a request in this process, as `python -m module …` or `python -c code …` would."""
    if request["leads"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    _show_environment()
    _move_to(pathlib.Path(request["folder"]))
    kind, program, *arguments = request["arguments"]
    sys.orig_argv = [sys.executable, kind, program, *arguments]
    if kind == "-m":
        sys.argv = [program, *arguments]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *arguments]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(program, "<string>", "exec"), main.__dict__)


def _show_environment() -> None:
    """Has `/proc/PID/environ` show this process's own variables, by which the tests know whose it is.

    The kernel shows the memory where it put the variables of the program that forked, which nothing reads any more.
    """
    fields = pathlib.Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    start, end = map(int, fields[47:49])  # fields 50 and 51 of proc(5); `fields` begins with field 3
    shown = b"".join(b"%s=%s\0" % item for item in os.environb.items())
    if len(shown) > end - start:
        sys.exit(f"{len(shown)} bytes of variables; {ROOM_FOR_VARIABLES} has room for {end - start}")
    ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)


def _move_to(folder: pathlib.Path) -> None:
    """Makes a folder the working directory, and the first one that modules are looked for in.

    Raises:
      SystemExit: the folder has other code than what was imported.
    """
    os.chdir(folder)
    if folder == ROOT:
        return
    sys.path[0] = str(folder)
    for package in ("pipeline", "configs"):
        for path in (ROOT / package).rglob("*.py"):
            copy = folder / path.relative_to(ROOT)
            if not copy.exists() or copy.read_bytes() != path.read_bytes():
                sys.exit(f"{copy} is not the code that was imported, {path}")


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who asked for the processes
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # so that a collection does not copy what all share
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        request = serve(connection)
    if request is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        become(request)


if __name__ == "__main__":
    main()
