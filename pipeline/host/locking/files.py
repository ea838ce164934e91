"""A lock on a local disk: the kernel's, on an open file, so that the end of the process ends it, however it comes.

The file holds who has it. It vanishes with an orderly end; one that a killed process left is no lock. A holder can watch that
the file is still there, because who removes a folder removes the lock with it. Machines that share a file system by NFS share
the lock as well; gcsfuse keeps it to one machine.
"""

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterator

from absl import logging

from pipeline.errors import ConfigError, MachineError
from pipeline.host import ending
from pipeline.host.locking.owner import Owner

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def held(path: str, *, patient: bool = False, watch_seconds: float | None = None) -> Iterator[None]:
    """Holds the lock while the block runs; on a file system without locks it says so, and the block runs without.

    Args:
      path: of the file.
      patient: whether to wait for the end of another process that holds it.
      watch_seconds: how often to look whether the file is still there; when it is not, its folder was moved or removed, and
        this process ends. None: never.

    Raises:
      ConfigError: another process holds it, and there is no patience.
      OSError: the file cannot be made.
    """
    descriptor = _locked(path, fcntl.LOCK_EX if patient else fcntl.LOCK_EX | fcntl.LOCK_NB)
    stop = threading.Event()
    if watch_seconds is not None:
        threading.Thread(target=_watch, args=(descriptor, path, watch_seconds, stop), name="lock", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        # Before the lock is let go: whoever opened the file meanwhile finds that it has no name any more, and begins again.
        with contextlib.suppress(OSError):
            if _is_named(descriptor, path):
                os.unlink(path)
        os.close(descriptor)


def _locked(path: str, how: int) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            owner = Owner.from_json(os.pread(descriptor, 10_000, 0))
            os.close(descriptor)
            raise refusal(path, owner) from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                os.close(descriptor)
                raise
            logging.warning("%s cannot be locked (%s): nothing keeps a second process away", path, error.strerror)
        if _is_named(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, Owner.this_process().to_json(), 0)
            return descriptor
        os.close(descriptor)


def _watch(descriptor: int, path: str, seconds: float, stop: threading.Event) -> None:
    missed = 0
    while not stop.wait(seconds):
        try:
            missed = 0 if _is_named(descriptor, path) else missed + 1
        except OSError:
            continue  # the disk is away for a moment
        if missed == 2 and not stop.is_set():
            folder = os.path.dirname(path)
            ending.abandon(
                MachineError(f"{folder} was moved or removed while this process wrote to it: ending here, unsaved")
            )


def refusal(path: str, owner: Owner | None) -> ConfigError:
    """Returns what to raise for a lock that somebody has."""
    folder = path.rpartition("/")[0]
    return ConfigError(
        f"{folder} is in use by {owner or 'another process'}. Wait for its end or stop it, or take another folder"
    )


def _is_named(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
