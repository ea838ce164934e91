"""Tells a storage that fails for the moment from contents that are wrong, whichever library met it, on disks and buckets.

Libraries give such failures as errors of their own, with the system's words or the service's status in them. What is not
recognised by its words is decided by reading: whoever can read every byte has no failure of storage before him.
"""

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterator

from absl import logging
from etils import epath

from pipeline.errors import ConfigError, MachineError
from pipeline.storage import objects

# Of disks and network file systems. What is missing is not among them: it may be damage.
_ERRNOS = (
    *(errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
    *(errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ECONNRESET, errno.EREMOTEIO),
)
_WORDS = re.compile(
    "|".join(
        [re.escape(os.strerror(number)) for number in _ERRNOS]
        # The status codes of tensorstore and array_record, as their messages begin; NOT_FOUND and DATA_LOSS are not among them.
        + [
            r"\b(UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|ABORTED|CANCELLED|PERMISSION_DENIED|UNAUTHENTICATED)\b"
        ]
        + [r"\bCURL error\b", r"\bHTTP (response code|status): ?(401|403|408|429|5\d\d)\b"]
    )
)
PAUSES_SECONDS = (1.0, 2.0, 4.0)  # before it is tried again; below, each client has its own patience besides
_PIECE_BYTES = 64 * 1024**2


def is_storage_failure(error: BaseException) -> bool:
    """Says whether an error, or one that led to it, is a storage that did not do what it was asked."""
    return any(
        isinstance(cause, MachineError)
        or (isinstance(cause, OSError) and cause.errno in _ERRNOS)
        or _WORDS.search(str(cause)) is not None
        for cause in _causes(error)
    )


def attempts() -> Iterator[int]:
    """Yields the numbers of attempts, with a pause before each but the first."""
    for number in range(1 + len(PAUSES_SECONDS)):
        if number:
            time.sleep(PAUSES_SECONDS[number - 1])
        yield number


def failure_of(error: Exception, path: object) -> Exception:
    """Returns what to raise for a failure of storage: as it is where it says what to do, else a `MachineError`."""
    known = [cause for cause in _causes(error) if isinstance(cause, ConfigError | MachineError)]
    return known[0] if known else MachineError(f"{path}: storage failed: {reason(error)}. The same command continues")


def read_whole(folder: epath.Path) -> None:
    """Reads every file below a folder.

    Raises:
      MachineError: one of them cannot be read, however often it is tried.
      ConfigError: of a bucket: it may not be read.
    """
    if os.fspath(folder).startswith("gs://"):
        _read_whole_on_gs(os.fspath(folder))
        return
    _on_disk(folder, lambda: _read_files_below(os.fspath(folder)))


def read_file_whole(path: str) -> None:
    """Reads a file on a disk; raises as `read_whole`, and `FileNotFoundError`."""
    _on_disk(path, lambda: _read_file(path))


def _on_disk(path: object, read: Callable[[], None]) -> None:
    for number in attempts():
        try:
            read()
            return
        except FileNotFoundError:
            raise
        except OSError as error:
            failure = error
            logging.warning("%s: %s%s", path, reason(error), "" if number == len(PAUSES_SECONDS) else "; trying again")
    raise MachineError(f"{path} cannot be read: {reason(failure)}. Mend that; the same command continues")


def _read_files_below(folder: str) -> None:
    def stop(error: OSError) -> None:
        raise error

    for directory, _, names in os.walk(folder, onerror=stop):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # what is missing is not unreadable
                _read_file(os.path.join(directory, name))


def _read_file(path: str) -> None:
    with open(path, "rb", buffering=0) as file:
        while file.read(_PIECE_BYTES):
            pass


def _read_whole_on_gs(folder: str) -> None:
    for entry in objects.entries(folder, recursive=True)[0]:
        for start in range(0, entry.size, _PIECE_BYTES):
            end = min(start + _PIECE_BYTES, entry.size)
            objects.read(entry.location, start, end, generation=entry.generation)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def reason(error: BaseException) -> str:
    """Returns an error as a part of one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
