"""Runs the trainer's process on one machine, at most once for each attempt.

A folder `attempts/N` has `start.json` (what to run), `started` (written before it runs, so that it is never started again),
`pid`, `log`, `asked` and `status`. The trainer's parent is `python3 -m pod.worker.trainer FOLDER`, which records how it ended.
So a restarted agent finds everything in the folder. A process is identified by its id, its start time and the machine's boot,
because ids are reused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pod.worker.machine import boot_id

_OPEN_FILES = 100_000


@dataclass(frozen=True)
class Ended:
    """The end of an attempt: its exit code, None if it left none, and its time in seconds since 1970."""

    exit_code: int | None
    at: float


class Attempt:
    """One attempt on this machine, below `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.number = int(folder.name)
        self.log = folder / "log"

    @property
    def started(self) -> bool:
        """Whether it was started here."""
        return (self.folder / "started").exists()

    @property
    def was_asked(self) -> bool:
        """Whether it was asked to save and end."""
        return (self.folder / "asked").exists()

    def ended(self) -> Ended | None:
        """Returns its end; None while it runs."""
        status = _read_json(self.folder / "status")
        if status is None and self.is_running():
            return None
        status = status or _read_json(self.folder / "status")  # it may have been written meanwhile
        if status is None:
            status = {"exit_code": None, "at": time.time()}
            _write_json(self.folder / "status", status)
        return Ended(status["exit_code"], status["at"])

    def is_running(self) -> bool:
        """Whether the trainer or its parent exists."""
        if (self.folder / "status").exists():
            return False
        return self._has_parent() or self._pid() is not None

    def ask_to_stop(self) -> bool:
        """Asks the trainer, only once, to save and end; it would take a second request as "at once"."""
        pid = self._pid()
        if pid is None:
            return False
        try:
            (self.folder / "asked").touch(exist_ok=False)
        except FileExistsError:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        return True

    def kill(self) -> None:
        """Ends the trainer with all its processes."""
        pid = self._pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def _has_parent(self) -> bool:
        try:
            with (self.folder / "run.lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _pid(self) -> int | None:
        """Returns the trainer's process id; None if it has ended."""
        noted = _read_json(self.folder / "pid")
        if noted is None or noted["boot_id"] != boot_id() or _start_time(noted["pid"]) != noted["start_time"]:
            return None
        return noted["pid"]


class Attempts:
    """All attempts on this machine, below `folder`."""

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def newest(self) -> Attempt | None:
        """Returns the last started attempt."""
        numbers = [int(path.name) for path in self._folder.iterdir() if path.name.isdigit()]
        found = [attempt for attempt in map(self.get, sorted(numbers)) if attempt.started]
        return found[-1] if found else None

    def get(self, number: int) -> Attempt:
        """Returns an attempt, started or not."""
        return Attempt(self._folder / str(number))

    def start(self, number: int, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Attempt:
        """Starts the trainer unless this attempt was started before; returns once its start or failure is recorded.

        Args:
          number: the number of the attempt.
          command: the trainer's command line.
          environment: variables to add to this process's environment.
          folder: the trainer's working directory.
        """
        attempt = self.get(number)
        if attempt.started:
            return attempt
        attempt.folder.mkdir(parents=True, exist_ok=True)
        _write_json(attempt.folder / "start.json", {"command": list(command), "folder": str(folder)})
        with attempt.log.open("ab") as log:
            parent = subprocess.Popen(
                [sys.executable, "-m", "pod.worker.trainer", str(attempt.folder)],
                cwd=Path(__file__).resolve().parents[2],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not (attempt.folder / "pid").exists() and parent.poll() is None:
            time.sleep(0.01)
        if not attempt.started:  # its parent failed to start; the log says why
            (attempt.folder / "started").touch()
        return attempt

    def forget(self, number: int) -> Attempt:
        """Records an attempt that ran here before the machine lost its disk, so that it does not run again."""
        attempt = self.get(number)
        attempt.folder.mkdir(parents=True, exist_ok=True)
        (attempt.folder / "started").touch()
        return attempt


def run(folder: Path) -> None:
    """Runs one attempt in a session of its own and records its end."""
    with (folder / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (folder / "started").touch(exist_ok=False)
        except (BlockingIOError, FileExistsError):
            return
        # Signals are for the trainer; this process must live to record its exit code.
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        _raise_open_files()
        start = _read_json(folder / "start.json")
        try:
            process = subprocess.Popen(start["command"], cwd=start["folder"], start_new_session=True)
        except OSError as error:
            print(f"cannot start the trainer: {error}", flush=True)
            _write_json(folder / "status", {"exit_code": 127, "at": time.time()})
            return
        noted = {"pid": process.pid, "start_time": _start_time(process.pid), "boot_id": boot_id()}
        _write_json(folder / "pid", noted)
        # End its input workers too; until the trainer is waited for, its id is not reused.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        _write_json(folder / "status", {"exit_code": code if code >= 0 else 128 - code, "at": time.time()})


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # only root may raise the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _OPEN_FILES), max(hard, _OPEN_FILES)))
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _start_time(pid: int) -> str:
    """Returns a process's start time in ticks since the boot; "" if it does not exist or is a zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]


def _read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _write_json(path: Path, value: dict) -> None:
    partial = path.with_name(f"{path.name}-{os.getpid()}-{threading.get_ident()}")
    with partial.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
