"""Compiles loops over pixels and bits with numba, each when it is first called.

numba keeps the result beside the loop's file or in the user's cache, so a machine compiles each loop once. Multiplications
and additions are not fused, so every machine gets the same bits.
"""

from collections.abc import Callable

import numba


def compiled(loop: Callable) -> Callable:
    """Compiles a loop when it is called first; other threads run meanwhile."""
    try:
        return numba.njit(loop, nogil=True, cache=True)
    except RuntimeError:  # neither the loop's folder nor the user's cache can be written to
        return numba.njit(loop, nogil=True)
