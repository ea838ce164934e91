"""Locks of places that one run or one preparation may write to at a time: none of them outlives its holder.

On disks a lock is one of the kernel's on an open file (`files.py`), in a bucket an object that its holder keeps alive
(`objects.py`). Readers are never kept away.
"""

import contextlib
import os
from collections.abc import Iterator

_WATCH_SECONDS = 15.0


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    """Holds the lock `path`, a local file or `gs://bucket/object`, while the block runs.

    Raises:
      ConfigError: another process holds it; the message says which.
      MachineError: the bucket cannot be reached.
      OSError: the file cannot be made.
    """
    from pipeline.host.locking import bucket, files, objects

    if path.startswith("gs://"):
        lock = objects.held(bucket.Bucket(), path)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = files.held(path, watch_seconds=_WATCH_SECONDS)
    with lock:
        yield
