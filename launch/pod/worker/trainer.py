"""Runs the trainer's process on one machine, at most once for each attempt.

An attempt is one start of the job on all workers; its number grows over the run. The folder `attempts/N` has these files:

- `start.json`: the command and its working directory.
- `started`: written before the trainer runs. An attempt with this file is never started again.
- `run.lock`: locked by the trainer's parent while it lives.
- `pid`: the trainer's process.
- `log`: the output of the trainer and its parent.
- `asked`: written before the trainer is asked to stop.
- `status`: the exit code and the time of the end.

The trainer's parent is `python3 -m pod.worker.trainer FOLDER`. It records how the trainer ended, so a restarted agent finds
everything in the folder. A process is identified by its id, its start time and the machine's boot id, because ids are reused.
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
from typing import Any

from pod.worker.machine import boot_id

_OPEN_FILES = 100_000  # file descriptors; readers of many shards need more than the default limit


@dataclass(frozen=True)
class Ended:
    """The end of an attempt.

    Attributes:
      exit_code: 128 + n after signal n; None if nothing recorded it, such as after a power failure.
      at: the time of the end, in seconds since 1970. Without an exit code it is the time when the end was noticed.
    """

    exit_code: int | None
    at: float


class Attempt:
    """One attempt on this machine, started or not.

    Attributes:
      folder: its files.
      number: its number, which is the folder's name.
      log: the file with the trainer's output.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.number = int(folder.name)
        self.log = folder / "log"

    @property
    def started(self) -> bool:
        """Whether the attempt was started on this machine, by this agent or an earlier one."""
        return (self.folder / "started").exists()

    @property
    def was_asked(self) -> bool:
        """Whether `ask_to_stop` has asked the trainer to save and end."""
        return (self.folder / "asked").exists()

    def ended(self) -> Ended | None:
        """Returns the end of a started attempt; None while it runs.

        If nothing runs and nothing recorded the end, it records an end without an exit code.
        """
        status = _read_json(self.folder / "status")
        if status is None and self.is_running():
            return None
        status = status or _read_json(self.folder / "status")  # the parent may have written it between the two checks
        if status is None:
            end = Ended(None, time.time())
            _write_json(self.folder / "status", {"exit_code": end.exit_code, "at": end.at})
            return end
        return Ended(status["exit_code"], status["at"])

    def is_running(self) -> bool:
        """Returns whether the trainer or its parent lives."""
        if (self.folder / "status").exists():
            return False
        return self._has_parent() or self._pid() is not None

    def ask_to_stop(self) -> bool:
        """Asks the trainer with SIGTERM to save a checkpoint and end.

        It sends the signal only once, because the trainer ends without saving after a second one.

        Returns:
          Whether this call sent the signal; False if no trainer runs or an earlier call sent it.
        """
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
        """Ends the trainer and all processes of its group with SIGKILL; does nothing if it has ended."""
        pid = self._pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def _has_parent(self) -> bool:
        """Returns whether the trainer's parent lives: the kernel releases its lock when it ends."""
        try:
            with (self.folder / "run.lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _pid(self) -> int | None:
        """Returns the trainer's process id; None if it has not started or has ended."""
        process = _read_json(self.folder / "pid")
        if process is None or process["boot_id"] != boot_id() or _start_time(process["pid"]) != process["start_time"]:
            return None
        return process["pid"]


class Attempts:
    """All attempts on this machine, below `folder`."""

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def newest(self) -> Attempt | None:
        """Returns the started attempt with the highest number; None if there is none."""
        numbers = [int(path.name) for path in self._folder.iterdir() if path.name.isdigit()]
        found = [attempt for attempt in map(self.get, sorted(numbers)) if attempt.started]
        return found[-1] if found else None

    def get(self, number: int) -> Attempt:
        """Returns an attempt, started or not."""
        return Attempt(self._folder / str(number))

    def start(self, number: int, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Attempt:
        """Starts the trainer unless this attempt was started before. Returns once the start or its failure is recorded.

        A command that cannot be run is no error here: the attempt then ends with exit code 127.

        Args:
          number: the number of the attempt.
          command: the trainer's command line.
          environment: variables to add to this process's environment.
          folder: the trainer's working directory.

        Returns:
          The attempt, which may have ended already.
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
        if not attempt.started:  # the parent failed before it wrote the file; the log says why
            (attempt.folder / "started").touch()
        return attempt

    def mark_started(self, number: int) -> Attempt:
        """Marks an attempt as started, without running it: it has ended, without an exit code.

        The agent calls this for an attempt that must not run here: it ran before the machine lost its disk, or was asked to
        stop before it started.
        """
        attempt = self.get(number)
        attempt.folder.mkdir(parents=True, exist_ok=True)
        (attempt.folder / "started").touch()
        return attempt


def run(folder: Path) -> None:
    """Runs the trainer of one attempt in a session of its own, waits for its end, and records it.

    This is the main function of the trainer's parent. It does nothing if the attempt was started before.
    """
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
        start = json.loads((folder / "start.json").read_text())
        try:
            process = subprocess.Popen(start["command"], cwd=start["folder"], start_new_session=True)
        except OSError as error:
            print(f"cannot start the trainer: {error}", flush=True)
            _write_json(folder / "status", {"exit_code": 127, "at": time.time()})
            return
        identity = {"pid": process.pid, "start_time": _start_time(process.pid), "boot_id": boot_id()}
        _write_json(folder / "pid", identity)
        # The trainer's input workers may outlive it, so end its whole process group. WNOWAIT leaves the trainer a
        # zombie, so the kernel cannot reuse its id before the kill.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        _write_json(folder / "status", {"exit_code": code if code >= 0 else 128 - code, "at": time.time()})


def _raise_open_files() -> None:
    """Raises the limits on open files to `_OPEN_FILES` if this process may, else the soft limit to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # only root may raise the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _OPEN_FILES), max(hard, _OPEN_FILES)))
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _start_time(pid: int) -> str:
    """Returns a process's start time in clock ticks since the boot; "" if it does not exist or is a zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]  # field 22 of /proc/PID/stat in proc(5); `fields` begins with field 4


def _read_json(path: Path) -> dict[str, Any] | None:
    """Returns the content of a file; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _write_json(path: Path, value: dict) -> None:
    """Replaces a file atomically, and durably: its content is on the disk before it gets its name."""
    partial = path.with_name(f"{path.name}-{os.getpid()}-{threading.get_ident()}")
    with partial.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
