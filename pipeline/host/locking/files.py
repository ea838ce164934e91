"""A lock on a local disk: a kernel lock on an open file, which ends with the process however that ends.

The file names the holder. An orderly end removes it; the file of a killed process locks nothing. A holder can watch that the
file still exists, because removing a folder removes its lock too. Machines that share a file system by NFS share the lock;
with gcsfuse it holds on one machine.
"""

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Generator

from absl import logging

from pipeline.errors import ConfigError, MachineError
from pipeline.host import ending
from pipeline.host.locking.owner import Owner

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def held(path: str, *, patient: bool = False, watch_seconds: float | None = None) -> Generator[None]:
    """Holds the lock while the block runs. On a file system without locks it logs a warning and runs the block without one.

    Args:
      path: the path of the lock file.
      patient: whether to wait until another holder ends.
      watch_seconds: how often to check that the file still exists. If it does not, its folder was moved or removed, and this
        process ends. None: never.

    Raises:
      ConfigError: another process holds the lock, and `patient` is False.
      OSError: the file cannot be created.
    """
    descriptor = _locked(path, fcntl.LOCK_EX if patient else fcntl.LOCK_EX | fcntl.LOCK_NB)
    stop = threading.Event()
    if watch_seconds is not None:
        threading.Thread(target=_watch, args=(descriptor, path, watch_seconds, stop), name="lock", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        # Unlink before unlocking: whoever has opened the file meanwhile sees that it is unlinked, and starts over.
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
            continue  # the disk does not answer for the moment
        if missed == 2 and not stop.is_set():
            folder = os.path.dirname(path)
            ending.abandon(
                MachineError(f"{folder} was moved or removed while this process wrote to it: ending here, unsaved")
            )


def refusal(path: str, owner: Owner | None) -> ConfigError:
    """Returns the error for a lock that another process holds."""
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
