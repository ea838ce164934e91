"""Decodes a window of a JPEG: of what lies outside it, nothing becomes pixels.

Binds the C interface of libjpeg-turbo 3, https://libjpeg-turbo.org/Documentation, which the package `turbojpeg` carries for
x86-64. Owns no policy: what the library refuses or warns of, and every machine without it, is `images.py`'s business. The
invariant: a window has the very pixels that it has when the whole picture is decoded.
"""

import ctypes
import functools
import importlib.metadata

import numpy as np

from pipeline.data.crops import Window
from pipeline.data.headers import Header

_PACKAGE = "turbojpeg"
_DECOMPRESS, _STOP_ON_WARNING, _FAST_DCT = 1, 0, 10  # TJINIT and TJPARAM of turbojpeg.h
_RGB = 0  # TJPF


class _Region(ctypes.Structure):
    """tjregion of turbojpeg.h."""

    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int), ("w", ctypes.c_int), ("h", ctypes.c_int))


def is_available() -> bool:
    """Returns whether this machine has the library."""
    return _library() is not None


def decode_window(data: bytes, header: Header, window: Window) -> np.ndarray | None:
    """Decodes a window of a grey or colour JPEG in one scan, with the fast DCT and smooth chroma.

    Args:
        data: The bytes of the file.
        header: What `read_header` says of it.
        window: Top, left, height and width, inside the picture.

    Returns:
        uint8 RGB `[window height, window width, 3]`, not contiguous; None when the library does not decode it without
        any warning.
    """
    library = _library()
    top, left, height, width = window
    # One more unit on either side, because smooth chroma looks one column further; left it must begin with a unit.
    unit = header.jpeg.unit_width
    first = max(0, left // unit - 1) * unit
    columns = min(header.width, left + width + unit) - first
    pixels = np.empty((height, columns, 3), np.uint8)
    handle = library.tj3Init(_DECOMPRESS)
    try:
        library.tj3Set(handle, _STOP_ON_WARNING, 1)
        library.tj3Set(handle, _FAST_DCT, 1)
        failed = (
            library.tj3DecompressHeader(handle, data, len(data))
            or library.tj3SetCroppingRegion(handle, _Region(first, top, columns, height))
            or library.tj3Decompress8(handle, data, len(data), pixels.ctypes.data, 0, _RGB)
        )
    finally:
        library.tj3Destroy(handle)
    return None if failed else pixels[:, left - first : left - first + width]


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Returns the library with the types of its functions declared, or None where the package is not installed."""
    try:
        files = importlib.metadata.files(_PACKAGE) or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    path = next((file.locate() for file in files if file.name.startswith("libturbojpeg")), None)
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.tj3Init.restype = pointer
    library.tj3Init.argtypes = [ctypes.c_int]
    library.tj3Destroy.restype = None
    library.tj3Destroy.argtypes = [pointer]
    library.tj3Set.argtypes = [pointer, ctypes.c_int, ctypes.c_int]
    library.tj3DecompressHeader.argtypes = [pointer, ctypes.c_char_p, size]
    library.tj3SetCroppingRegion.argtypes = [pointer, _Region]
    library.tj3Decompress8.argtypes = [pointer, ctypes.c_char_p, size, pointer, ctypes.c_int, ctypes.c_int]
    return library
