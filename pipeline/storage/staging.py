"""Copies the shards of a dataset to this machine's disk or memory while the first epoch is read from the bucket.

Random access to records in a bucket costs a connection and a request for each, so the shards are copied once, in large
pieces. A copy appears under its name when it is complete and its checksum matches the bucket's; from then on it is read. Of
several processes on a machine, the one that holds a lock copies. A killed run's copies are used by the next run on the same
data, and deleted by a run on other data. Nothing is copied without room for it.
"""

import base64
import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence

import google_crc32c
from absl import logging

from pipeline.errors import ConfigError, DataError, MachineError
from pipeline.storage import storage_errors, transfer

PLACES = ("none", "disk", "memory")
_MEMORY = "/dev/shm"
_MEMORY_FILE = "/proc/meminfo"
_CONTAINER = pathlib.Path("/sys/fs/cgroup")
_ROOT = "efficientnet-staged"
_THREADS = 16  # files at a time; a connection carries about 100 MB/s
_SPARE = 0.05  # share of the free space that stays free
_SPARE_MEMORY_BYTES = 8 * 1024**3  # for the trainer and its workers
_LOG_EVERY = 0.1  # of all bytes


@dataclasses.dataclass(frozen=True)
class StagedFiles:
    """The copies of a dataset, for its readers; it pickles.

    Attributes:
      folder: The folder of the copies on this machine.
    """

    folder: str

    def copy_of(self, path: str) -> str | None:
        """Returns the copy of a file; None until it is complete."""
        copy = os.path.join(self.folder, os.path.basename(path))
        return copy if os.path.exists(copy) else None


class Staging:
    """Copies one dataset in the background.

    Attributes:
      files: The copies, for the readers.
    """

    def __init__(self, place: str, paths: Sequence[str], *, root: str | None = None):
        """Checks the room and starts to copy.

        Args:
          place: "disk" or "memory".
          paths: The files, all in one folder; local paths or `gs://…`.
          root: The folder of the copies; by default that of `place`.

        Raises:
          ConfigError: there is not enough room.
        """
        self._place = place
        self._files = transfer.described(paths)
        copies = _own_folder(pathlib.Path(root or (_MEMORY if place == "memory" else _disk_root())))
        identity = "\n".join(f"{file.location} {file.size} {file.generation}" for file in self._files)
        self._folder = copies / hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.files = StagedFiles(str(self._folder))
        self._stop = threading.Event()
        self._changed: list[DataError] = []
        self.total_bytes = sum(file.size for file in self._files)
        self.copied_bytes = 0
        self._count = threading.Lock()
        with _as_advice(copies):
            copies.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_others(copies, self._folder)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = (self._folder / ".lock").open("w")
            self._remove_cut_copies()
        self._check_room()
        self._thread = threading.Thread(target=self._run, name="staging", daemon=True)
        self._thread.start()

    def wait(self) -> bool:
        """Waits for the end and returns whether everything was copied."""
        self._thread.join()
        return all(self.files.copy_of(file.location) for file in self._files)

    def raise_changed(self) -> None:
        """Raises `DataError` if the data have changed, because further reads would return other data."""
        if self._changed:
            raise self._changed[0]

    def close(self) -> None:
        """Stops copying; existing copies stay for the next start."""
        self._stop.set()
        self._thread.join()
        self._lock.close()

    def remove(self) -> None:
        """Stops copying and deletes the copies, unless another process of this machine uses them."""
        self.close()
        _remove_unused(self._folder)

    def _remove_cut_copies(self) -> None:
        """Deletes copies that a machine that lost its power has by name, but not as a whole."""
        for file in self._files:
            copy = self.files.copy_of(file.location)
            if copy and os.path.getsize(copy) != file.size:
                os.unlink(copy)

    def _check_room(self) -> None:
        missing = sum(file.size for file in self._files if not self.files.copy_of(file.location))
        room = _room(self._place, self._folder)
        if missing > room:
            others = {
                "memory": "'disk', 'none', or a machine with more memory",
                "disk": "'memory', 'none', or a larger disk",
            }
            raise ConfigError(
                f"config.data.stage={self._place!r}: {self._folder.parent} has room for {room / 1e9:,.1f} GB, and what is "
                f"not there yet has {missing / 1e9:,.1f} GB. Take {others[self._place]}"
            )

    def _run(self) -> None:
        if not self._take_lock():
            return
        start = time.monotonic()
        missing = [file for file in self._files if not self.files.copy_of(file.location)]
        bytes_left = sum(file.size for file in missing)
        self.copied_bytes = self.total_bytes - bytes_left
        if not missing:
            logging.info("All %s of the data are staged in %s", _size(self.total_bytes), self._folder)
            return
        logging.info(
            "Staging %s in %s, in the background; until then the data are read from where they are",
            _size(bytes_left),
            self._folder,
        )
        self._logged_bytes, self._start, self._bytes_at_start = self.copied_bytes, start, self.copied_bytes
        failures = self._copy_all(missing)
        if self._stop.is_set():
            return
        if failures:
            logging.error(
                "Staging: %d of %d files could not be copied and are read from the bucket, which is slow: %s",
                len(failures),
                len(self._files),
                storage_errors.reason(failures[0]),
            )
            return
        seconds = time.monotonic() - start
        logging.info(
            "Staged %s in %.0f s, %.0f MB/s", _size(bytes_left), seconds, bytes_left / 1e6 / max(seconds, 1e-9)
        )

    def _take_lock(self) -> bool:
        """Waits until no other process of this machine copies the same; returns False if it was stopped meanwhile."""
        while not self._stop.is_set():
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                self._stop.wait(1.0)
        return False

    def _copy_all(self, files: list[transfer.File]) -> list[Exception]:
        """Copies files, several at a time, and returns the reasons of failures.

        The threads are daemons, so they do not keep the process from ending, as those of a `ThreadPoolExecutor` would.
        """
        left, failures = collections.deque(files), []

        def work() -> None:
            while not self._stop.is_set():
                try:
                    file = left.popleft()
                except IndexError:
                    return
                try:
                    self._copy(file)
                except Exception as error:
                    failures.append(error)
                    if isinstance(error, DataError):
                        self._changed.append(error)

        threads = [threading.Thread(target=work, name="staging", daemon=True) for _ in range(min(_THREADS, len(files)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return failures

    def _copy(self, file: transfer.File) -> None:
        partial = self._folder / f".{os.path.basename(file.location)}.partial"
        failure: Exception = MachineError(f"{file.location} was not read")
        for _ in storage_errors.attempts():
            counted = 0
            try:
                checksum = google_crc32c.Checksum()
                with partial.open("wb") as target:
                    for piece in transfer.pieces(file):
                        if self._stop.is_set():
                            return
                        target.write(piece)
                        checksum.update(piece)
                        counted += len(piece)
                        self._advance(len(piece))
                if file.crc32c is not None and base64.b64encode(checksum.digest()).decode() != file.crc32c:
                    raise MachineError(f"{file.location} did not arrive as it is in the bucket")
                os.replace(partial, self._folder / os.path.basename(file.location))
                return
            except DataError:
                raise
            except Exception as error:
                failure = error
                self._advance(-counted)
                partial.unlink(missing_ok=True)
                if transfer.is_changed(file):
                    raise transfer.changed(file) from error
                if not storage_errors.is_storage_failure(error):
                    break
        raise failure

    def _advance(self, count: int) -> None:
        with self._count:
            self.copied_bytes += count
            if self.copied_bytes - self._logged_bytes < _LOG_EVERY * self.total_bytes:
                return
            self._logged_bytes = self.copied_bytes
        rate = (self.copied_bytes - self._bytes_at_start) / max(time.monotonic() - self._start, 1e-9)
        logging.info(
            "Staging: %.0f %% of %s, %.0f MB/s, %.0f s left",
            100 * self.copied_bytes / self.total_bytes,
            _size(self.total_bytes),
            rate / 1e6,
            (self.total_bytes - self.copied_bytes) / max(rate, 1.0),
        )


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _own_folder(root: pathlib.Path) -> pathlib.Path:
    """Returns the folder of this user's copies; another user of the machine may have made the usual one."""
    folder, user = root / _ROOT, os.getuid()
    return folder if not folder.exists() or folder.stat().st_uid == user else root / f"{_ROOT}-{user}"


def _disk_root() -> str:
    return os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()


def _room(place: str, folder: pathlib.Path) -> float:
    """Returns the number of bytes that may be written."""
    room = shutil.disk_usage(folder).free * (1 - _SPARE)
    if place != "memory":
        return room
    with open(_MEMORY_FILE) as file:
        fields = dict(line.split(":") for line in file)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    return max(0.0, min(room, min(available, _room_in_container()) - _SPARE_MEMORY_BYTES))


def _room_in_container() -> float:
    """Returns the number of bytes up to the container's limit, which files in memory count towards; infinity without one."""
    try:
        limit, used = ((_CONTAINER / name).read_text().strip() for name in ("memory.max", "memory.current"))
        fields = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        return float("inf") if limit == "max" else int(limit) - int(used) + int(fields["inactive_file"])
    except (OSError, ValueError, KeyError):
        return float("inf")


def _remove_others(root: pathlib.Path, wanted: pathlib.Path) -> None:
    """Deletes the copies of other data, unless a process reads them."""
    for folder in root.iterdir():
        if folder != wanted and folder.is_dir():
            _remove_unused(folder)


def _remove_unused(folder: pathlib.Path) -> None:
    with contextlib.suppress(FileNotFoundError, BlockingIOError), (folder / ".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)


@contextlib.contextmanager
def _as_advice(root: pathlib.Path):
    try:
        yield
    except OSError as error:
        raise ConfigError(f"config.data.stage: {root} cannot be written: {error.strerror}") from error
