"""The C interface of libjpeg-turbo 3, https://libjpeg-turbo.org/Documentation, which the package `turbojpeg` has for x86-64.

Owns the declarations and the life of handles and buffers. Stops at the library's first warning and then returns None: what to
do about it, and without the library, is the callers' business.
"""

import ctypes
import functools
import importlib.metadata
from collections.abc import Sequence

import numpy as np

_PACKAGE = "turbojpeg"
_DECOMPRESS, _TRANSFORM = 1, 2  # TJINIT of turbojpeg.h
_STOP_ON_WARNING, _FAST_DCT = 0, 10  # TJPARAM
_CROP, _COPY_NO_MARKERS = 4, 64  # TJXOPT
_RGB = 0  # TJPF

Region = tuple[int, int, int, int]  # left, top, width, height in pixels


class _Region(ctypes.Structure):
    """tjregion of turbojpeg.h."""

    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int), ("w", ctypes.c_int), ("h", ctypes.c_int))


class _Transform(ctypes.Structure):
    """tjtransform of turbojpeg.h."""

    _fields_ = (
        *(("region", _Region), ("operation", ctypes.c_int), ("options", ctypes.c_int)),
        *(("filter_data", ctypes.c_void_p), ("filter", ctypes.c_void_p)),
    )


def is_available() -> bool:
    """Returns whether this machine has the library."""
    return _library() is not None


def decode_region(data: bytes, region: Region) -> np.ndarray | None:
    """Decodes a region of a grey or colour JPEG in one scan, with the fast DCT and smooth chroma.

    Args:
        data: The bytes of the file.
        region: Inside the picture; left is a multiple of the width of a unit of coding.

    Returns:
        uint8 RGB `[height, width, 3]`, or None when the library does not decode it without any warning. At the left and
        right edge of the region chroma is not smooth.
    """
    library = _library()
    _, _, width, height = region
    pixels = np.empty((height, width, 3), np.uint8)
    handle = library.tj3Init(_DECOMPRESS)
    try:
        library.tj3Set(handle, _STOP_ON_WARNING, 1)
        library.tj3Set(handle, _FAST_DCT, 1)
        failed = (
            library.tj3DecompressHeader(handle, data, len(data))
            or library.tj3SetCroppingRegion(handle, _Region(*region))
            or library.tj3Decompress8(handle, data, len(data), pixels.ctypes.data, 0, _RGB)
        )
    finally:
        library.tj3Destroy(handle)
    return None if failed else pixels


def cut_losslessly(data: bytes, regions: Sequence[Region]) -> list[bytes] | None:
    """Returns regions of a JPEG as JPEGs of their own with the same coefficients, and last the whole picture.

    All are sequential, in one scan and with the standard Huffman tables; the whole one keeps the markers of applications.

    Args:
        data: The bytes of the file.
        regions: Left and top are multiples of the size of a unit of coding.
    """
    library = _library()
    count = len(regions) + 1
    transforms = (_Transform * count)()
    for transform, region in zip(transforms, regions):
        transform.region, transform.options = _Region(*region), _CROP | _COPY_NO_MARKERS
    buffers, sizes = (ctypes.c_void_p * count)(), (ctypes.c_size_t * count)()
    handle = library.tj3Init(_TRANSFORM)
    try:
        library.tj3Set(handle, _STOP_ON_WARNING, 1)
        failed = library.tj3Transform(handle, data, len(data), count, buffers, sizes, transforms)
        return None if failed else [ctypes.string_at(*written) for written in zip(buffers, sizes)]
    finally:
        for buffer in buffers:
            library.tj3Free(buffer)
        library.tj3Destroy(handle)


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
    pointer, size, number, data = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p
    arrays = [ctypes.POINTER(kind) for kind in (pointer, size, _Transform)]
    library.tj3Init.restype = pointer
    library.tj3Init.argtypes = [number]
    library.tj3Destroy.restype = None
    library.tj3Destroy.argtypes = [pointer]
    library.tj3Free.restype = None
    library.tj3Free.argtypes = [pointer]
    library.tj3Set.argtypes = [pointer, number, number]
    library.tj3DecompressHeader.argtypes = [pointer, data, size]
    library.tj3SetCroppingRegion.argtypes = [pointer, _Region]
    library.tj3Decompress8.argtypes = [pointer, data, size, pointer, number, number]
    library.tj3Transform.argtypes = [pointer, data, size, number, *arrays]
    return library
