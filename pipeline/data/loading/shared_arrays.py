"""Arrays of worker processes in memory that their parent sees too, and that is used again when the parent is done with it.

grain takes new shared memory for each array and copies it there: of 600 pixels that costs more than the augmentation. Here a
worker makes its arrays in memory of its own without a name (memfd) and sends where they are; the parent maps each piece once.
The last byte of a piece says whether anybody has it: the worker sets it and the parent, once no view of the array is left,
clears it. Nothing has to be cleaned up, because the memory ends with the processes that have it.
"""

import dataclasses
import functools
import math
import mmap
import os
import threading

import numpy as np

from pipeline.data.loading.recycling import lend

_FREE, _TAKEN = 0, 1
_FROM_BYTES = 1 << 20  # smaller arrays are not worth the trouble; grain sends them


class WorkerGone(Exception):
    """A process has ended, and its arrays with it.

    Attributes:
        process: its id.
    """

    def __init__(self, process: int):
        super().__init__(f"process {process} is gone")
        self.process = process


@dataclasses.dataclass(frozen=True)
class Address:
    """Where in another process an array is.

    Attributes:
        process: its id.
        file: descriptor of the memory in it.
        shape: of the array.
        dtype: of the array, as text.
    """

    process: int
    file: int
    shape: tuple[int, ...]
    dtype: str


class SharedArrays:
    """The arrays of a worker. Pickles without memory."""

    def __init__(self):
        self._lock = threading.Lock()
        self._pieces = {}  # by descriptor: the whole memory, uint8 [bytes + 1]

    def __reduce__(self):
        return SharedArrays, ()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Returns an array of that shape and type with arbitrary values, as `np.empty` does."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < _FROM_BYTES:
            return np.empty(shape, dtype)
        with self._lock:
            free = (piece for piece in self._pieces.values() if piece.size == size + 1 and piece[-1] == _FREE)
            piece = next(free, None)
            if piece is None:
                piece = self._new_piece(size + 1)
            piece[-1] = _TAKEN
        return piece[:-1].view(dtype).reshape(shape)

    def address(self, array: np.ndarray) -> Address | np.ndarray:
        """Returns what to send in place of an array that `empty` made."""
        with self._lock:
            files = [file for file, piece in self._pieces.items() if np.may_share_memory(piece, array)]
        return Address(os.getpid(), files[0], array.shape, array.dtype.str) if files else array

    def _new_piece(self, size: int) -> np.ndarray:
        file = os.memfd_create("arrays")
        os.truncate(file, size)
        self._pieces[file] = np.frombuffer(mmap.mmap(file, size), np.uint8)
        return self._pieces[file]


class ReceivedArrays:
    """The parent's view of its workers' arrays."""

    def __init__(self):
        self._pieces = {}  # by process and descriptor

    def array(self, address: Address) -> np.ndarray:
        """Returns the array; its memory goes back to the worker when it and all its views are gone.

        Raises:
            WorkerGone: it ended before its memory was ever seen here.
        """
        key = address.process, address.file
        if key not in self._pieces:
            try:
                with open(f"/proc/{address.process}/fd/{address.file}", "r+b") as file:
                    self._pieces[key] = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)
            except FileNotFoundError as error:
                raise WorkerGone(address.process) from error
        piece = self._pieces[key]
        memory = piece[:-1].view(address.dtype).reshape(address.shape)
        return lend(memory, functools.partial(piece.__setitem__, -1, _FREE))  # no names, which are gone at exit
