"""Reads whole files to be copied, with one listing for all of them and then large pieces.

Buckets are read by tensorstore, whose threads do not need Python's lock. An object whose generation differs from the listing is
refused.
"""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence

from pipeline.errors import DataError
from pipeline.storage import objects
from pipeline.storage.local import is_remote

_PIECE_BYTES = 16 * 1024**2


@dataclasses.dataclass(frozen=True)
class File:
    """A file before it is copied.

    Attributes:
      location: A local path or `gs://…`.
      size: In bytes.
      generation: A number that changes with the content.
      crc32c: The checksum of the content in base64; None if unknown.
    """

    location: str
    size: int
    generation: int
    crc32c: str | None


def described(paths: Sequence[str]) -> list[File]:
    """Returns the descriptions of files before they are copied, by one listing for a folder in a bucket."""
    names = {os.fspath(path) for path in paths}
    if not names or not is_remote(next(iter(names))):
        stats = {name: os.stat(name) for name in names}
        return [File(name, stats[name].st_size, stats[name].st_mtime_ns, None) for name in sorted(names)]
    found = {}
    for folder in sorted({name.rpartition("/")[0] for name in names}):
        found |= {entry.location: entry for entry in objects.entries(folder)[0]}
    missing = sorted(name for name in names if name not in found)
    if missing:
        raise DataError(f"{missing[0]} is not in the bucket, and {len(missing) - 1} more")
    return [File(name, found[name].size, found[name].generation, found[name].crc32c) for name in sorted(names)]


def pieces(file: File) -> Iterator[bytes]:
    """Yields the content of a file, from a bucket by tensorstore."""
    if not is_remote(file.location):
        with open(file.location, "rb", buffering=0) as source:
            while piece := source.read(_PIECE_BYTES):
                yield piece
        return
    import tensorstore

    bucket, key = objects.split(file.location)
    store = tensorstore.KvStore.open({"driver": "gcs", "bucket": bucket}).result()
    ends = [min(start + _PIECE_BYTES, file.size) for start in range(0, file.size, _PIECE_BYTES)]
    reads = (store.read(key, byte_range=slice(start, end)) for start, end in zip([0, *ends], ends))
    ahead = collections.deque(itertools.islice(reads, 2))
    while ahead:
        result = ahead.popleft().result()
        if result.state != "value" or _generation(result.stamp) != file.generation:
            raise changed(file)
        yield result.value
        ahead.extend(itertools.islice(reads, 1))


def is_changed(file: File) -> bool:
    """Returns whether the object in the bucket has changed."""
    if not is_remote(file.location):
        return False
    entry = objects.stat(file.location)
    return entry is None or entry.generation != file.generation


def changed(file: File) -> DataError:
    """Returns the error for a changed file."""
    return DataError(
        f"{file.location} was changed while it was read: something is writing to the dataset. Start again once that is done"
    )


def _generation(stamp) -> int:
    """Returns the bucket's generation of an object from tensorstore's form of it."""
    return int.from_bytes(stamp.generation[1:9], "little")
