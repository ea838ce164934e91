"""Arrays in memory that a worker process shares with its parent, and reuses when the parent no longer needs them.

grain copies each array into new shared memory; at 600 px that copy costs more than augmentation. Here a worker creates its
arrays in anonymous shared memory (memfd) and sends only their addresses. The parent maps each block once. The last byte of a
block is the buffer's in-use flag: the worker sets it, and the parent clears it once no view of the array is left. Nothing
needs cleaning up, because the memory is freed with the processes.
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
_FROM_BYTES = 1 << 20  # grain sends smaller arrays by itself


class WorkerGone(Exception):
    """A worker process has ended, and its arrays are lost.

    Attributes:
        process: the worker's process id.
    """

    def __init__(self, process: int):
        super().__init__(f"process {process} is gone")
        self.process = process


@dataclasses.dataclass(frozen=True)
class Address:
    """The address of an array in another process.

    Attributes:
        process: the process id.
        file: the descriptor of the memory in that process.
        shape: the array's shape.
        dtype: the array's dtype, as text.
    """

    process: int
    file: int
    shape: tuple[int, ...]
    dtype: str


class SharedArrays:
    """The arrays of a worker. It pickles without memory."""

    def __init__(self):
        self._lock = threading.Lock()
        self._pieces = {}  # by descriptor: the whole memory, uint8 [bytes + 1]

    def __reduce__(self):
        return SharedArrays, ()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Returns an uninitialised array, like `np.empty`."""
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
        """Returns the address of an array that `empty` made, to be sent in its place."""
        with self._lock:
            files = [file for file, piece in self._pieces.items() if np.may_share_memory(piece, array)]
        return Address(os.getpid(), files[0], array.shape, array.dtype.str) if files else array

    def _new_piece(self, size: int) -> np.ndarray:
        for file, piece in list(self._pieces.items()):
            if piece.size != size and piece[-1] == _FREE:  # for images of an earlier size
                del self._pieces[file]
                os.truncate(file, 0)  # not closed, as the parent still uses its number
        file = os.memfd_create("arrays")
        os.truncate(file, size)
        self._pieces[file] = np.frombuffer(mmap.mmap(file, size), np.uint8)
        return self._pieces[file]


class ReceivedArrays:
    """The parent's view of its workers' arrays."""

    def __init__(self):
        self._pieces = {}  # by process and descriptor

    def array(self, address: Address) -> np.ndarray:
        """Returns the array. Its memory returns to the worker when the array and all its views are gone.

        Raises:
            WorkerGone: the worker ended before its memory was mapped here.
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
        return lend(memory, functools.partial(piece.__setitem__, -1, _FREE))  # global names are gone at exit
