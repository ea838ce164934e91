"""Memory for batches that is used again once nobody can look at it any more.

Pieces as large as a batch the C library takes from the kernel anew each time, which clears every page: for a picture of 600
pixels that takes a third of the time of decoding it. Owns no policy of how many batches there are: there are as many pieces of
memory as were in use at the same time.
"""

import collections

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
        return np.asarray(_Lease(memory, unused))


class _Lease:
    """What an array and all its views hold on to, whoever has them; when the last one goes, so does this."""

    def __init__(self, memory: np.ndarray, unused: list[np.ndarray]):
        self.__array_interface__ = memory.__array_interface__
        self._memory, self._unused = memory, unused

    def __del__(self):
        self._unused.append(self._memory)
