"""Streams of rows as grain's datasets: read and transformed, divided among processes, padded, and stacked.

Each is a pure function of an index; `batches.py` puts them together. grain sends them to the worker processes, so they can be
pickled.
"""

import abc
import bisect
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, cast, overload

import grain
import numpy as np

from pipeline.data.loading.recycling import RecycledArrays
from pipeline.data.loading.shared_arrays import SharedArrays
from pipeline.data.loading.workers import RecordTrace
from pipeline.errors import ConfigError, DataError, MachineError


@dataclasses.dataclass(frozen=True)
class Example:
    """Reads a record and transforms it. Errors name the record."""

    source: Any
    transform: Callable[..., dict]
    trace: RecordTrace | None

    def __call__(self, record: int, *rng: np.random.Generator) -> dict:
        if self.trace:
            self.trace.note(record)
        try:
            example = {**self.source[record], "record": record}
        except (ConfigError, DataError, MachineError):
            raise
        except Exception as error:  # array_record raises errors of many types, one for each absl status code
            raise DataError(f"Record {record} of {self.source!r} cannot be read: {error}") from error
        try:
            return self.transform(example, *rng)
        except Exception as error:
            error.add_note(f"while transforming record {record}")
            raise


class Rows(grain.MapDataset[dict], abc.ABC):
    """A dataset that makes the row of an index. grain slices it."""

    @abc.abstractmethod
    def row(self, index: int) -> dict:
        """Returns the row of an index."""

    @overload
    def __getitem__(self, index: slice) -> grain.MapDataset[dict]: ...

    @overload
    def __getitem__(self, index: int) -> dict: ...

    def __getitem__(self, index: slice | int) -> grain.MapDataset[dict] | dict:
        return self.slice(index) if isinstance(index, slice) else self.row(index)

    def parents_row(self, index: int) -> dict:
        """Returns a row of the only parent."""
        return cast(dict, self._parent[index])  # None would be a row that a filter left out, and nothing filters


class ProcessRows(Rows):
    """The rows of one process in a stream of global rows: local row i is global row (i // b) * B + p * b + i % b."""

    def __init__(self, parent: grain.MapDataset, batch_size: int, process_index: int, process_count: int):
        super().__init__(parent)
        self._batch_size = batch_size
        self._rows = batch_size // process_count
        self._first_row = process_index * self._rows

    def __len__(self) -> int:
        return len(self._parent) // self._batch_size * self._rows

    def row(self, index: int) -> dict:
        step, row = divmod(index, self._rows)
        return self.parents_row(step * self._batch_size + self._first_row + row)


class InTurns(Rows):
    """Endless rows of several parents: the next parent takes over at each of `first_rows`."""

    def __init__(self, parents: Sequence[grain.MapDataset], first_rows: Sequence[int]):
        super().__init__(parents)
        self._first_rows = first_rows

    def __len__(self) -> int:
        return len(self.parents[0])

    def row(self, index: int) -> dict:
        parent = self.parents[bisect.bisect(self._first_rows, index)]
        return cast(dict, parent[index])  # see `parents_row`


class PaddedRows(Rows):
    """The rows of `parent` followed by rows of zeros with weight 0 and record -1, up to whole batches."""

    def __init__(self, parent: grain.MapDataset, batch_size: int):
        super().__init__(parent)
        self._length = -(-len(parent) // batch_size) * batch_size

    def __len__(self) -> int:
        return self._length

    def row(self, index: int) -> dict:
        index %= self._length  # grain's index grows when it repeats
        return self.parents_row(index) if index < len(self._parent) else self._padding

    @functools.cached_property
    def _padding(self) -> dict:
        zeros = {key: np.zeros_like(value) for key, value in self.parents_row(0).items()}
        return {**zeros, "record": np.int64(-1)}


class Stacked(Rows):
    """Stacks of `size` rows. Each row is copied before the next is made, so all of them are made in the same memory.

    With `shared` memory the stacks are addresses for another process.
    """

    def __init__(self, parent: grain.MapDataset, size: int, shared: SharedArrays | None):
        super().__init__(parent)
        self._size = size
        self._shared = shared
        self._memory = shared or RecycledArrays()

    def __len__(self) -> int:
        return len(self._parent) // self._size

    def row(self, index: int) -> dict:
        stack = {}
        for place in range(self._size):
            for key, value in self.parents_row(index * self._size + place).items():
                if place == 0:
                    stack[key] = self._memory.empty((self._size, *value.shape), value.dtype)
                stack[key][place] = value
        return {key: self._shared.address(array) for key, array in stack.items()} if self._shared else stack
