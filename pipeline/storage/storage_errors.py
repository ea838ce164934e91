"""Distinguishes storage failures from damaged contents, whichever library raised the error, on disks and in buckets.

Libraries raise such failures as errors of their own, with the system's words or the service's status. An error that is not
recognised by its words is decided by reading: if every byte can be read, storage has not failed.
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

# Errors of disks and network file systems. A missing file is not among them, because it may be damage.
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
PAUSES_SECONDS = (1.0, 2.0, 4.0)  # between attempts; each client also retries by itself
_PIECE_BYTES = 64 * 1024**2


def is_storage_failure(error: BaseException) -> bool:
    """Returns whether an error, or one of its causes, is a storage failure."""
    return any(
        isinstance(cause, MachineError)
        or (isinstance(cause, OSError) and cause.errno in _ERRNOS)
        or _WORDS.search(str(cause)) is not None
        for cause in _causes(error)
    )


def attempts() -> Iterator[int]:
    """Yields the number of each attempt, with a pause before each but the first."""
    for number in range(1 + len(PAUSES_SECONDS)):
        if number:
            time.sleep(PAUSES_SECONDS[number - 1])
        yield number


def failure_of(error: Exception, path: object) -> Exception:
    """Returns the error to raise for a storage failure: itself if it says what to do, else a `MachineError`."""
    known = [cause for cause in _causes(error) if isinstance(cause, ConfigError | MachineError)]
    return known[0] if known else MachineError(f"{path}: storage failed: {reason(error)}. The same command continues")


def read_whole(folder: epath.Path) -> None:
    """Reads every file below a folder.

    Raises:
      MachineError: one of them cannot be read, also after several attempts.
      ConfigError: the bucket denies access.
    """
    if os.fspath(folder).startswith("gs://"):
        _read_whole_on_gs(os.fspath(folder))
        return
    _on_disk(folder, lambda: _read_files_below(os.fspath(folder)))


def read_file_whole(path: str) -> None:
    """Reads a file on a disk; raises as `read_whole`, and `FileNotFoundError`."""
    _on_disk(path, lambda: _read_file(path))


def _on_disk(path: object, read: Callable[[], None]) -> None:
    failure = OSError("not tried")
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
            with contextlib.suppress(FileNotFoundError):  # a missing file is not unreadable
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
    """Returns an error as part of one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
