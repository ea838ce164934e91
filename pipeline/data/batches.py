"""Turns a source and a transform into batches: a pure function of the step.

Owns which record is in which row. Row r of global batch s is record order[s * B + r] of the endless epoch-shuffled
order, and its random state comes from (seed, s * B + r), so batches do not depend on how many processes or workers
there are, and starting at any step costs nothing. Process p of P holds the rows [p * B / P, (p + 1) * B / P).
"""

import dataclasses
from collections.abc import Callable, Iterator

import grain
import numpy as np

from pipeline.errors import ConfigError

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Records:
    """What grain reads: the examples of a source, each with its record number."""

    source: object

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, record: int) -> dict:
        return {**self.source[record], "record": record}

    def __repr__(self) -> str:
        return repr(self.source)


class _ProcessRows(grain.MapDataset):
    """Of a stream of global rows, those of one process: local row i is global row (i // b) * B + p * b + i % b."""

    def __init__(self, parent: grain.MapDataset, batch_size: int, process_index: int, process_count: int):
        super().__init__(parent)
        self._batch_size = batch_size
        self._rows = batch_size // process_count
        self._first_row = process_index * self._rows

    def __len__(self) -> int:
        return len(self._parent) // self._batch_size * self._rows

    def __getitem__(self, index: int):
        step, row = divmod(index, self._rows)
        return self._parent[step * self._batch_size + self._first_row + row]


class _PaddedRows(grain.MapDataset):
    """The rows of `parent` followed by rows of zeros with weight 0 and record -1, up to whole batches."""

    def __init__(self, parent: grain.MapDataset, batch_size: int):
        super().__init__(parent)
        self._length = -(-len(parent) // batch_size) * batch_size

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int):
        if index < len(self._parent):
            return self._parent[index]
        padding = {key: np.zeros_like(value) for key, value in self._parent[0].items()}
        return {**padding, "record": np.int64(-1)}


def train_batches(
    source,
    transform: Callable[[dict, np.random.Generator], dict],
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yields this process's share of the batches `start_step`, `start_step + 1`, … without end.

    Args:
        source: see `pipeline.data.sources.Source`.
        transform: `(example, rng) -> example`; given `{"image": bytes, "label", "record"}` it returns arrays.
        batch_size: rows in a batch over all processes; a multiple of `process_count`.
        seed: decides the order and all random draws; 0 to 2**32 - 1.
        start_step: the first batch to yield.
        process_index: which share is this process's.
        process_count: how many processes share each batch.
        workers: processes that read and transform; 0: this process does it.

    Returns:
        An iterator of `{"image": uint8 [b, S, S, 3], "label": int32 [b], "weight": float32 [b], "record": int64 [b]}`
        with b = batch_size / process_count. `close()` ends its workers.
    """
    rows = grain.MapDataset.source(_Records(source)).seed(seed).shuffle().repeat().random_map(transform)
    return _batches(rows, batch_size, start_step, process_index, process_count, workers)


def eval_batches(
    source,
    transform: Callable[[dict], dict],
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yields each record once, in order, as ceil(n / batch_size) batches on every process.

    Arguments as `train_batches`. Global row r of batch s is record s * batch_size + r. Rows past the last record are
    zeros with weight 0 and record -1.
    """
    rows = _PaddedRows(grain.MapDataset.source(_Records(source)).map(transform), batch_size)
    return _batches(rows, batch_size, 0, process_index, process_count, workers)


def _batches(
    rows: grain.MapDataset, batch_size: int, start_step: int, process_index: int, process_count: int, workers: int
) -> Iterator[Batch]:
    if batch_size <= 0 or batch_size % process_count:
        raise ConfigError(f"A batch of {batch_size} cannot be shared by {process_count} processes equally.")
    local = _ProcessRows(rows, batch_size, process_index, process_count)
    steps = local.batch(batch_size // process_count)[start_step:]
    if workers:
        # Each worker makes whole batches; one is being made and one is ready.
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        return iter(
            steps.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)).mp_prefetch(options)
        )
    return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))
