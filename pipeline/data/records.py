"""Random access to the records of a split, in ArrayRecord shards on disk or gs://.

A staged shard (`pipeline/storage/staging`) is read from its copy once that is complete. A record that cannot be read is tried
again. It counts as damaged only if the whole shard can be read and the record is wrong.
"""

import bisect
import dataclasses
import itertools
import os
import threading
from collections.abc import Iterator, Sequence

from absl import logging
from array_record.python.array_record_data_source import ArrayRecordDataSource

from pipeline.errors import ConfigError, DataError, MachineError
from pipeline.storage import local, storage_errors
from pipeline.storage.staging import StagedFiles


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a file, in the form that array_record expects.

    Attributes:
      filename: A local path or `gs://…`.
      skip: Records before the part.
      take: Records in the part.
      examples_in_shard: Records in the file.
    """

    filename: str
    skip: int
    take: int
    examples_in_shard: int


class Records:
    """A sequence of serialized examples. It pickles without open files.

    Attributes:
      shards: The shards, in order.
      staged: The copies of the shards, if they are staged.
    """

    def __init__(self, shards: Sequence[Shard]):
        self.shards = tuple(shards)
        self.staged: StagedFiles | None = None
        self._ends = list(itertools.accumulate(shard.take for shard in self.shards))
        self._forget()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, record: int) -> bytes:
        """Returns a record.

        Raises:
          DataError: the shard is damaged, or was replaced while it was read.
          MachineError, ConfigError: storage failed or denied access.
        """
        number = bisect.bisect_right(self._ends, record)
        shard = self.shards[number]
        place = record - (self._ends[number] - shard.take)
        try:
            return self._reader(number)[place]
        except (ConfigError, DataError, MachineError):
            raise
        except Exception as error:  # array_record raises what absl's status codes map to, of many types
            return self._read_again(number, place, error)

    def in_order(self) -> Iterator[bytes]:
        """Yields all records with one file open at a time. A shard in a bucket is read once as a whole.

        Raises the errors of a single record.
        """
        for number, shard in enumerate(self.shards):
            with (
                local.local_copy(shard.filename) as file,
                _open(dataclasses.replace(shard, filename=os.fspath(file))) as opened,
            ):
                for place in range(shard.take):
                    try:
                        record = opened[place]
                    except Exception as error:
                        record = self._read_again(number, place, error)
                    yield record

    def __getstate__(self) -> dict:
        return {"shards": self.shards, "staged": self.staged, "_ends": self._ends}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._forget()

    def _forget(self) -> None:
        self._readers: dict[int, tuple[str, ArrayRecordDataSource]] = {}
        self._lock = threading.Lock()

    def _reader(self, number: int) -> ArrayRecordDataSource:
        """Returns the reader of a shard: of its copy if there is one."""
        known = self._readers.get(number)
        if known is not None and (self.staged is None or known[0] != self.shards[number].filename):
            return known[1]
        with self._lock:
            shard = self.shards[number]
            path = (self.staged and self.staged.copy_of(shard.filename)) or shard.filename
            known = self._readers.get(number)
            if known is None or known[0] != path:
                known = self._readers[number] = (path, _open(dataclasses.replace(shard, filename=path)))
        return known[1]

    def _read_again(self, number: int, place: int, error: Exception) -> bytes:
        shard = self.shards[number]
        path = self._readers[number][0] if number in self._readers else shard.filename
        for _ in storage_errors.attempts():
            if not storage_errors.is_storage_failure(error):
                break
            logging.warning("%s: %s", path, storage_errors.reason(error))
            try:
                return _open(dataclasses.replace(shard, filename=path))[place]
            except Exception as again:
                error = again
        else:
            raise storage_errors.failure_of(error, path) from error
        try:
            with local.local_copy(path) as file:
                if not local.is_remote(path):
                    storage_errors.read_file_whole(path)
                record = _open(dataclasses.replace(shard, filename=os.fspath(file)))[place]
        except (ConfigError, DataError, MachineError):
            raise
        except FileNotFoundError as missing:
            raise DataError(f"{path} is gone: it was removed while it was read. Copy it there again") from missing
        except Exception as damage:
            raise DataError(f"{path} is damaged: {storage_errors.reason(damage)}") from damage
        logging.warning("%s: %s; read whole, it is good", path, storage_errors.reason(error))
        return record


def _open(shard: Shard) -> ArrayRecordDataSource:
    # Its protocol has writable attributes, of which it writes none; a shard is frozen.
    return ArrayRecordDataSource([shard])  # pyrefly: ignore[bad-argument-type]
