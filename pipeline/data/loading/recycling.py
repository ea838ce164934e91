"""Memory for batches that is used again once nobody can look at it any more.

Pieces as large as a batch the C library takes from the kernel anew each time, which clears every page: for an image of 600
pixels that takes a third of the time of decoding it. Owns no policy of how many batches there are: there are as many pieces of
memory as were in use at the same time.
"""

import collections
from collections.abc import Callable

import numpy as np


class RecycledArrays:
    """Makes arrays whose memory comes from arrays of the same shape and type that are gone. Pickles without memory."""

    def __init__(self):
        self._unused = collections.defaultdict(list)

    def __reduce__(self):
        return RecycledArrays, ()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Returns an array of that shape and type with arbitrary values, as `np.empty` does."""
        unused = self._unused[shape, np.dtype(dtype)]
        try:
            memory = unused.pop()  # another thread may have been faster
        except IndexError:
            memory = np.empty(shape, dtype)
        return lend(memory, lambda: unused.append(memory))


def lend(memory: np.ndarray, give_back: Callable[[], None]) -> np.ndarray:
    """Returns an array in the memory of another one; when it and all its views are gone, `give_back` is called."""
    return np.asarray(_Lease(memory, give_back))


class _Lease:
    """What an array and all its views hold on to, whoever has them; when the last one goes, so does this."""

    def __init__(self, memory: np.ndarray, give_back: Callable[[], None]):
        self.__array_interface__ = memory.__array_interface__
        self._memory, self._give_back = memory, give_back

    def __del__(self):
        self._give_back()
