"""The record of a run on this machine, one folder for each name, and the messages to the user.

~/.local/state/tpu_pod/NAME (or POD_RECORDS/NAME) has the last `up` for `resume`, the location of the control plane, the
events, and a lock against a second supervisor on this machine. Only its owner can read it, because it contains the trainer's
environment. It has nothing that the service or the bucket can tell. A dry run writes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pod.errors import Refused

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Place:
    """The place of a run, which the commands after `up` need.

    Attributes:
      project: the project's id.
      zone: such as "us-central1-a".
      control: gs://… the control plane's folder.
      workdir: the run's directory.
      type: the TPU type.
      batch_size: images in a step, for `status`.
      version: the version of the API that has the slice.
      internal_ips: whether the machines have no external addresses.
    """

    project: str
    zone: str
    control: str
    workdir: str
    type: str = ""
    batch_size: int = 0
    version: str = "v2"
    internal_ips: bool = False


class Record:
    """The record of one run on this machine."""

    def __init__(self, name: str, environment: Mapping[str, str], *, dry_run: bool = False):
        """Opens the record, and creates its folder if it is missing.

        Raises:
          Refused: the folder cannot be written.
        """
        state = environment.get("XDG_STATE_HOME") or os.path.join(environment.get("HOME") or "~", ".local", "state")
        folders = environment.get("POD_RECORDS") or os.path.join(os.path.expanduser(state), "tpu_pod")
        self.folder = Path(folders) / name
        self._dry_run = dry_run
        self._lock: int | None = None
        self._last_words = ""
        if dry_run:
            return
        if str(self.folder).startswith("~"):
            raise Refused("there is no home directory for the record of the run; name a folder for it with POD_RECORDS")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        except OSError as error:
            raise self._unusable(error) from None

    def log(self, words: str) -> None:
        """Prints a line with the time and adds it to the events; skips a repetition of the last line.

        A full disk or a terminal that is gone is no reason for a supervisor to end.

        Raises:
          BrokenPipeError: the output is a pipe that nobody reads any more.
        """
        if words == self._last_words:
            return
        self._last_words = words
        if not self._dry_run:
            with contextlib.suppress(OSError), open(self.folder / "events", "a", encoding="utf-8") as events:
                events.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {words}\n")
        try:
            print(f"{time.strftime('%H:%M:%S')}  {words}", file=sys.stderr, flush=True)
        except BrokenPipeError:
            raise
        except OSError:
            return

    def save_command(self, arguments: Sequence[str], folder: Path) -> None:
        """Stores the command line and its folder for `resume`."""
        self._write("command", "\0".join(arguments).encode("utf-8", "surrogateescape"))
        self._write("folder", os.fsencode(folder))

    def command(self) -> tuple[list[str], Path]:
        """Returns the command line of the last `up` and its folder.

        Raises:
          Refused: there was none on this machine.
        """
        try:
            words = (self.folder / "command").read_bytes().decode("utf-8", "surrogateescape")
            folder = Path(os.fsdecode((self.folder / "folder").read_bytes()))
        except OSError:
            raise Refused(
                f"nothing is known of a run named {self.folder.name} on this machine; give the whole command again"
            ) from None
        return (words.split("\0") if words else []), folder

    def save_place(self, place: Place) -> None:
        """Stores the place of the run."""
        self._write("place.json", json.dumps(dataclasses.asdict(place), indent=1).encode())

    def place(self) -> Place | None:
        """Returns the place of the run; None if `up` was not given on this machine."""
        try:
            stored = json.loads((self.folder / "place.json").read_text(encoding="utf-8"))
            known = {item.name for item in dataclasses.fields(Place)}
            return Place(**{key: value for key, value in stored.items() if key in known})
        except (OSError, ValueError, TypeError):
            return None

    def lock(self) -> None:
        """Takes the lock of this machine, which ends with this process.

        Raises:
          Refused: another process has the lock.
        """
        if self._dry_run:
            return
        if self._try_lock():
            self._write("supervisor", str(os.getpid()).encode())
            return
        name = self.folder.name
        words = f"a supervisor of {name} runs already (process {self.supervisor() or 'unknown'})"
        raise Refused(f"{words}; watch it with: launch/tpu_pod.sh logs --name {name}")

    def wait_for_lock(self, seconds: float) -> bool:
        """Takes the lock once its holder has ended; returns whether that was in time."""
        end = time.monotonic() + seconds
        while not self._try_lock():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def supervisor(self) -> int:
        """Returns the process that has, or last had, this machine's lock; 0 for none."""
        try:
            return int((self.folder / "supervisor").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0

    def supervisor_is_here(self) -> bool:
        """Returns whether the process of that number on this machine is the one that has the lock.

        Several machines or containers may share a home, and each has processes of its own with these numbers. A system
        without /proc, as macOS, cannot tell and is taken at its word.
        """
        if not os.path.isdir("/proc/self/fd"):
            return True
        try:
            opened = list(Path(f"/proc/{self.supervisor()}/fd").iterdir())
        except OSError:
            return False
        return any(_is_same_file(path, self.folder / "lock") for path in opened)

    def is_locked(self) -> bool:
        """Returns whether another process has the lock."""
        if self._dry_run:
            return False
        free = self._try_lock()
        if free:
            os.close(self._lock)  # type: ignore[arg-type]
            self._lock = None
        return not free

    def _try_lock(self) -> bool:
        if self._lock is not None or fcntl is None:
            return True
        try:
            file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except OSError as error:  # such as a network file system without locks
            os.close(file)
            raise Refused(
                f"{self.folder} cannot be locked ({error.strerror}); name another folder with POD_RECORDS"
            ) from None
        self._lock = file
        return True

    def _write(self, name: str, content: bytes) -> None:
        if self._dry_run:
            return
        partial = self.folder / f"{name}.partial"
        try:
            file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(file, "wb") as out:
                out.write(content)
            os.replace(partial, self.folder / name)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> Refused:
        return Refused(f"cannot write {self.folder} ({error.strerror}); name another folder with POD_RECORDS")


def _is_same_file(first: Path, second: Path) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False
