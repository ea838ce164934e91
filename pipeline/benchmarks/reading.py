"""Measures what reading records costs a host: from the dataset's own place, and from a copy on this machine.

Records are read in random order, as in training, and are not decoded; both places take turns. Only the first shards are used,
because copying the whole dataset would take long. CPU time is that of this process, the client's threads included. The copy was
written a moment ago, so it is read from the system's memory rather than from the disk.
"""

import concurrent.futures
import dataclasses
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Sequence

from pipeline.data.records import Records, Shard
from pipeline.data.sources import Source
from pipeline.errors import MachineError
from pipeline.storage import transfer
from pipeline.storage.staging import Staging

THREADS = 16  # each mostly waits
_ROUNDS = 3  # of both places, in turns
_SAMPLE_BYTES = 1024**3


@dataclasses.dataclass(frozen=True)
class ReadingCosts:
    """The costs of reading; medians of the rounds.

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
      images: how many records to read from each place in each round.

    Raises:
      ConfigError: there is no room for the copy.
      MachineError: the copy could not be made.
    """
    shards = _sample(source.shards)
    with tempfile.TemporaryDirectory(prefix="reading.") as folder:
        start = time.monotonic()
        staging = Staging("disk", [shard.filename for shard in shards], root=folder)
        try:
            if not staging.wait():
                raise MachineError("the copy could not be made; the log says why")
            bytes_per_second = staging.total_bytes / (time.monotonic() - start)
            copies = Records(shards)
            copies.staged = staging.files
            places = {"where they are": Records(shards), "copied to this machine": copies}
            measured = {place: [] for place in places}
            for number in range(_ROUNDS):
                for place, records in places.items():
                    measured[place].append(_measure(records, images, seed=number))
        finally:
            staging.remove()
    return [
        ReadingCosts(place, *(statistics.median(values) for values in zip(*rounds)))
        for place, rounds in measured.items()
    ], bytes_per_second


def report(costs: list[ReadingCosts], bytes_per_second: float) -> str:
    """Returns the costs as a table."""
    lines = [f"{'reading, in random order':34}{'CPU ms / image':>16}{'images/s':>22}"]
    lines += [f"{cost.place:34}{cost.cpu_seconds * 1e3:16.3f}{cost.images_per_second:22,.0f}" for cost in costs]
    return "\n".join([*lines, f"copying (config.data.stage): {bytes_per_second / 1e6:,.0f} MB/s"])


def _sample(shards: Sequence[Shard]) -> list[Shard]:
    """Returns the first shards, as many as have `_SAMPLE_BYTES`."""
    sizes = {file.location: file.size for file in transfer.described([shard.filename for shard in shards])}
    sample = []
    for shard in shards:
        if sum(sizes[taken.filename] for taken in sample) >= _SAMPLE_BYTES:
            break
        sample.append(shard)
    return sample


def _measure(records: Records, images: int, seed: int) -> tuple[float, float]:
    """Returns images per second and CPU-seconds of an image."""
    rng = random.Random(seed)
    order = [rng.randrange(len(records)) for _ in range(images)]
    for first in itertools.accumulate((shard.take for shard in records.shards[:-1]), initial=0):
        records[first]  # opens the shard, which is done once a run and not counted
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        start, cpu = time.perf_counter(), time.process_time()
        for _ in pool.map(records.__getitem__, order):
            pass
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return images / seconds, cpu / images
