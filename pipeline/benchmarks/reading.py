"""Measures what reading records costs a host: from the dataset's own place, and from a copy on this machine.

Records are read in random order, as in training, and are not decoded. Only the first shards are used, because copying the whole
dataset would take long.
"""

import concurrent.futures
import dataclasses
import random
import tempfile
import time

from pipeline.data.records import Records
from pipeline.data.sources import Source
from pipeline.errors import MachineError
from pipeline.storage.staging import Staging

THREADS = 16  # each mostly waits
_SAMPLE_BYTES = 1024**3


@dataclasses.dataclass(frozen=True)
class ReadingCosts:
    """The costs of reading.

    Attributes:
      place: where the records are.
      images_per_second: with `THREADS` threads, by the wall clock.
      cpu_seconds: per image, in this process.
    """

    place: str
    images_per_second: float
    cpu_seconds: float


def measure_reading(source: Source, images: int) -> tuple[list[ReadingCosts], float]:
    """Returns the costs of both places, and the bytes per second of the copy.

    Args:
      source: the records.
      images: how many records to read from each place.

    Raises:
      MachineError: the copy could not be made.
    """
    shards, records = [], 0
    for shard in source.shards:
        shards.append(shard)
        records += shard.take
        if records * len(source._records[0]) > _SAMPLE_BYTES:
            break
    sample = Records(shards)
    costs = [_measure("where they are", sample, images)]
    with tempfile.TemporaryDirectory(prefix="reading.") as folder:
        start = time.monotonic()
        staging = Staging("disk", [shard.filename for shard in shards], root=folder)
        if not staging.wait():
            raise MachineError("the copy could not be made; the log says why")
        bytes_per_second = staging.total_bytes / (time.monotonic() - start)
        copies = Records(shards)
        copies.staged = staging.files
        costs.append(_measure("copied to this machine", copies, images))
        staging.remove()
    return costs, bytes_per_second


def report(costs: list[ReadingCosts], bytes_per_second: float) -> str:
    """Returns the costs as a table."""
    lines = [f"{'reading, in random order':34}{'CPU ms / image':>16}{'images/s':>22}"]
    lines += [f"{cost.place:34}{cost.cpu_seconds * 1e3:16.3f}{cost.images_per_second:22,.0f}" for cost in costs]
    return "\n".join([*lines, f"copying (config.data.stage): {bytes_per_second / 1e6:,.0f} MB/s"])


def _measure(place: str, records: Records, images: int) -> ReadingCosts:
    rng = random.Random(0)
    order = [rng.randrange(len(records)) for _ in range(images)]
    records[order[0]]  # opens the shard
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        start, cpu = time.perf_counter(), time.process_time()
        for _ in pool.map(records.__getitem__, order):
            pass
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return ReadingCosts(place, images / seconds, cpu / images)
