"""Turns a source and a transform into batches: a pure function of the step.

Row r of global batch s is record order[s * B + r] of the endless epoch-shuffled order, and its random state comes from (seed,
s * B + r). So batches do not depend on the number of processes or workers, and starting at any step costs nothing. Process p
of P has the rows [p * B / P, (p + 1) * B / P). The transform of a row follows from s, so images may grow in the course of
training.
"""

import functools
import tempfile
import weakref
from collections.abc import Callable, Generator, Sequence

import grain
import numpy as np

from pipeline.data.loading.damage import DamagedImages, StandIns
from pipeline.data.loading.recycling import RecycledArrays
from pipeline.data.loading.rows import Example, InTurns, PaddedRows, ProcessRows, Stacked
from pipeline.data.loading.shared_arrays import Address, ReceivedArrays, SharedArrays
from pipeline.data.loading.workers import (
    RecordTrace,
    failure_of_workers,
    keep_memory_in_workers,
    set_up_worker,
    worker_count,
)
from pipeline.errors import ConfigError

Batch = dict[str, np.ndarray]
_CHUNK_ROWS = 64  # the most that a worker makes at a time, which bounds the memory


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
    max_bad_images: int | None = None,
    later: Sequence[tuple[int, Callable[[dict, np.random.Generator], dict]]] = (),
) -> "Batches":
    """Returns this process's share of the batches `start_step`, `start_step + 1`, … without end.

    Args:
        source: see `pipeline.data.sources.Source`.
        transform: `(example, rng) -> example`; given `{"image": bytes, "label", "record"}` it returns arrays.
        batch_size: rows in a batch over all processes; a multiple of `process_count`.
        seed: decides the order and all random draws; 0 to 2**32 - 1.
        start_step: the first batch to yield.
        process_index: the index of this process.
        process_count: the number of processes that share each batch.
        workers: processes that read and transform; 0: this process does it; -1: by the number of CPUs.
        max_bad_images: how many damaged images (weight 0) this process tolerates; None: any number.
        later: transforms that replace `transform` from a batch on: (first batch, transform), in order.

    Returns:
        An iterator of `{"image": uint8 [b, S, S, 3], "label": int32 [b], "weight": float32 [b], "record": int64 [b]}`
        with b = batch_size / process_count. A row of weight 0 has the label and the record of its damaged image, and the
        pixels of the next row that is not damaged.
    """
    first_rows = [step * batch_size for step, _ in later]

    def rows_of(records: grain.MapDataset, examples: Sequence[Example]) -> grain.MapDataset:
        order = records.seed(seed).shuffle().repeat()
        rows = [StandIns(order.random_map(example)) for example in examples]
        return InTurns(rows, first_rows) if later else rows[0]

    return Batches(
        source,
        [transform, *(transform for _, transform in later)],
        rows_of,
        batch_size=batch_size,
        start_step=start_step,
        process_index=process_index,
        process_count=process_count,
        workers=workers,
        max_bad_images=max_bad_images,
    )


def eval_batches(
    source,
    transform: Callable[[dict], dict],
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    max_bad_images: int | None = None,
    endless: bool = False,
    damaged: DamagedImages | None = None,
) -> "Batches":
    """Returns each record once, in order, as ceil(n / batch_size) batches on every process.

    Arguments as in `train_batches`. Global row r of batch s is record s * batch_size + r. Rows past the last record are zeros
    with weight 0 and record -1. With `endless` the batches repeat. `damaged` continues the count of an earlier pass.
    """

    def rows_of(records: grain.MapDataset, examples: Sequence[Example]) -> grain.MapDataset:
        rows = PaddedRows(records.map(*examples), batch_size)
        return rows.repeat() if endless else rows

    return Batches(
        source,
        [transform],
        rows_of,
        batch_size=batch_size,
        start_step=0,
        process_index=process_index,
        process_count=process_count,
        workers=workers,
        max_bad_images=max_bad_images,
        damaged=damaged,
    )


class EvalPasses:
    """The batches of `eval_batches`, in several passes with the same workers.

    A worker takes 3.4 CPU seconds to start, and a run evaluates hundreds of times. The first pass starts the workers. Between
    two passes they hold the first batches of the next one ready. Without workers nothing is kept.
    """

    def __init__(
        self,
        source,
        transform: Callable[[dict], dict],
        *,
        batch_size: int,
        workers: int = 0,
        max_bad_images: int | None = None,
        **share: int,
    ):
        """Arguments as in `train_batches`; `share` has "process_index" and "process_count"."""
        self._batches_per_pass = -(-len(source) // batch_size)
        self._keeps = worker_count(workers) > 0
        self._begin = functools.partial(
            eval_batches,
            source,
            transform,
            batch_size=batch_size,
            workers=workers,
            max_bad_images=max_bad_images,
            endless=self._keeps,
            damaged=DamagedImages(source, max_bad_images),
            **share,
        )
        self._batches = None

    def next_pass(self) -> Generator[Batch]:
        """Yields the batches of one pass; leaving it early ends the workers."""
        if self._batches is None:
            self._batches = self._begin()
        whole = False
        try:
            for _ in range(self._batches_per_pass):
                yield next(self._batches)
            whole = True
        finally:
            if not (whole and self._keeps):
                self.close()

    def close(self) -> None:
        """Ends the workers."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


class Batches:
    """An iterator of batches that owns its workers. `close()` or the end of the process ends them."""

    def __init__(
        self,
        source,
        transforms: Sequence[Callable[..., dict]],
        rows_of: Callable[[grain.MapDataset, Sequence[Example]], grain.MapDataset],
        *,
        batch_size: int,
        start_step: int,
        process_index: int,
        process_count: int,
        workers: int,
        max_bad_images: int | None,
        damaged: DamagedImages | None = None,
    ):
        """Begins with batch `start_step` of the global rows that `rows_of` makes of record numbers and of what reads them.

        What reads them is one for each of `transforms`.

        Raises:
            ConfigError: the processes cannot share a batch equally.
        """
        if batch_size <= 0 or batch_size % process_count:
            raise ConfigError(f"A batch of {batch_size} cannot be shared by {process_count} processes equally.")
        workers = worker_count(workers)
        self._source = source
        self._damaged = damaged or DamagedImages(source, max_bad_images)
        self._trace_folder = tempfile.TemporaryDirectory(prefix="records.")
        self._trace = RecordTrace(self._trace_folder.name) if workers else None
        examples = [Example(source, transform, self._trace) for transform in transforms]
        rows = rows_of(grain.MapDataset.range(len(source)), examples)
        local_batch = batch_size // process_count
        rows = ProcessRows(rows, batch_size, process_index, process_count)
        chunk = _largest_divisor(local_batch, _CHUNK_ROWS) if workers else local_batch
        self._chunks_per_batch = local_batch // chunk
        self._memory, self._received = RecycledArrays(), ReceivedArrays()
        chunks = Stacked(rows, chunk, SharedArrays() if workers else None)[start_step * self._chunks_per_batch :]
        if workers:
            keep_memory_in_workers()
            threads = 4 if source.remote else 1  # reads over the network mostly wait
            options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
            dataset = chunks.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
            dataset = dataset.mp_prefetch(options, worker_init_fn=set_up_worker)
        else:
            dataset = chunks.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
        # At exit, grain's iterator must be deleted before its modules, so its only reference is where the finalizer drops it.
        self._chunks = [iter(dataset)]
        self._end = weakref.finalize(self, _end, self._chunks, self._trace_folder)

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        """Returns the next batch.

        Raises:
            DataError: a record cannot be read, or too many images are damaged.
            MachineError: a worker died.
        """
        if not self._chunks:
            raise ValueError("These batches are closed.")
        try:
            chunks = [self._next_chunk() for _ in range(self._chunks_per_batch)]
            batch = chunks[0] if len(chunks) == 1 else self._concatenated(chunks)
            self._damaged.check(batch)
        except StopIteration:
            raise
        except Exception as error:
            failure = failure_of_workers(error, self._trace, self._source) if self._trace else None
            self.close()
            if failure is None:
                raise
            raise failure from None
        return batch

    def _next_chunk(self) -> Batch:
        sent = next(self._chunks[0])
        return {
            key: self._received.array(value) if isinstance(value, Address) else value for key, value in sent.items()
        }

    def _concatenated(self, chunks: list[Batch]) -> Batch:
        batch = {}
        for key, value in chunks[0].items():
            rows = len(chunks) * len(value)
            batch[key] = self._memory.empty((rows, *value.shape[1:]), value.dtype)
            np.concatenate([chunk[key] for chunk in chunks], out=batch[key])
        return batch

    def close(self) -> None:
        """Ends the workers and frees what they share with this process."""
        self._end()


def _end(chunks: list[grain.DatasetIterator], trace_folder: tempfile.TemporaryDirectory) -> None:
    chunks.pop().close()
    trace_folder.cleanup()


def _largest_divisor(number: int, limit: int) -> int:
    return next(divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0)
