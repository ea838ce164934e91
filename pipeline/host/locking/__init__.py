"""Locks for folders to which one run or one preparation may write at a time. No lock outlives its holder.

On a disk a lock is a kernel lock on an open file (`files.py`). In a bucket it is an object that its holder keeps renewing
(`objects.py`). Readers need no lock.
"""

import contextlib
import os
from collections.abc import Generator

_WATCH_SECONDS = 15.0


@contextlib.contextmanager
def held(path: str) -> Generator[None]:
    """Holds the lock `path`, a local file or `gs://bucket/object`, while the block runs.

    Raises:
      ConfigError: another process holds it; the message names it.
      MachineError: the bucket cannot be reached.
      OSError: the file cannot be created.
    """
    from pipeline.host.locking import bucket, files, objects

    if path.startswith("gs://"):
        lock = objects.held(bucket.Bucket(), path)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = files.held(path, watch_seconds=_WATCH_SECONDS)
    with lock:
        yield
