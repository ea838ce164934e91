"""Memory for batches that is reused once no array refers to it.

malloc returns batch-sized blocks to the kernel, so each reuse zeroes every page again. For an image of 600 pixels that takes a
third of the time of decoding it. There are as many blocks as were in use at the same time. When batches become larger for
good, the smaller blocks are freed.
"""

import collections
from collections.abc import Callable

import numpy as np


class RecycledArrays:
    """Creates arrays in the memory of deleted arrays of the same shape and dtype. It pickles without memory."""

    def __init__(self):
        self._unused = collections.defaultdict(list)

    def __reduce__(self):
        return RecycledArrays, ()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Returns an uninitialised array, like `np.empty`."""
        if (shape, np.dtype(dtype)) not in self._unused:
            self._forget(len(shape), np.dtype(dtype))
        unused = self._unused[shape, np.dtype(dtype)]
        try:
            memory = unused.pop()  # IndexError if another thread was faster
        except IndexError:
            memory = np.empty(shape, dtype)
        return lend(memory, lambda: unused.append(memory))

    def _forget(self, dimensions: int, dtype: np.dtype) -> None:
        """Releases arrays of other shapes with as many dimensions; the size of images changes between stages."""
        for shape, other in list(self._unused):
            if len(shape) == dimensions and other == dtype:
                self._unused.pop((shape, other), None)


def lend(memory: np.ndarray, give_back: Callable[[], None]) -> np.ndarray:
    """Returns an array in the memory of another; `give_back` is called when it and all its views are gone."""
    return np.asarray(_Lease(memory, give_back))


class _Lease:
    """The owner that an array and all its views refer to; it is deleted with the last of them."""

    def __init__(self, memory: np.ndarray, give_back: Callable[[], None]):
        self.__array_interface__ = memory.__array_interface__
        self._memory, self._give_back = memory, give_back

    def __del__(self):
        self._give_back()
