"""Decodes a window of a JPEG: of what lies outside it, nothing becomes pixels.

The JPEGs that `pipeline.prepare` leaves behind say where each of their units of coding begins. The units that the window
needs are put together to a smaller JPEG, so that of what lies outside not even the bits are read. Owns no policy: what the
library refuses or warns of, and every machine without it, is `images.py`'s business. The invariant: a window has the very
pixels that it has when the whole picture is decoded.
"""

import numpy as np

from pipeline.data import kernels, libjpeg_turbo
from pipeline.data.crops import Window
from pipeline.data.headers import Header


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
    width = header.width
    if header.jpeg.index and (found := excerpt(data, header, window)):
        data, width, window = found
    top, left, height, columns = window
    unit = header.jpeg.unit_width
    first, last = _units_needed(left, columns, unit, -(-width // unit))
    first *= unit
    pixels = libjpeg_turbo.decode_region(data, (first, top, min(width, last * unit) - first, height))
    return None if pixels is None else pixels[:, left - first : left - first + columns]


def excerpt(data: bytes, header: Header, window: Window) -> tuple[bytes, int, Window] | None:
    """Cuts the units that a window needs out of a JPEG with an index.

    Args:
        data: The bytes of the file.
        header: What `read_header` says of it.
        window: Top, left, height and width, inside the picture.

    Returns:
        A JPEG, its width in pixels and the window in it; None when the index is not that of this picture.
    """
    frame, (index_offset, index_bytes) = header.jpeg, header.jpeg.index
    rows, columns = frame.units(header.height, header.width)
    interval = frame.restart_interval
    if not interval or columns % interval or index_bytes // 2 * interval != rows * columns:
        return None
    scan = frame.scan_offset + 1 + int.from_bytes(data[frame.scan_offset + 1 : frame.scan_offset + 3], "big")
    top, left, height, width = window
    first_row, last_row = _units_needed(top, height, frame.unit_height, rows)
    first, last = _units_needed(left, width, frame.unit_width, columns)
    first, last = first // interval, -(-last // interval)
    joined = np.empty(len(data) - scan, np.uint8)
    source, pieces = np.frombuffer(data, np.uint8), (rows, columns // interval)
    written = kernels.join_pieces(source, index_offset, scan, pieces, (first_row, last_row), (first, last), joined)
    if not written:
        return None
    bounds = min(header.height, last_row * frame.unit_height), min(header.width, last * interval * frame.unit_width)
    offset = first_row * frame.unit_height, first * interval * frame.unit_width
    size = bounds[0] - offset[0], bounds[1] - offset[1]
    head = bytearray(data[:scan])
    head[frame.height_offset : frame.height_offset + 4] = b"".join(number.to_bytes(2, "big") for number in size)
    del head[2 : index_offset + index_bytes]  # the index comes first
    return b"".join((head, joined[:written])), size[1], (top - offset[0], left - offset[1], height, width)


def _units_needed(begin: int, size: int, unit: int, count: int) -> tuple[int, int]:
    """Returns the first of the units along an axis that `size` pixels from `begin` on need, and the one behind the last.

    Smooth chroma looks at the samples of the pixel before and of the one behind. The last unit is never alone: it may be so
    narrow that chroma would not be smooth [libjpeg's jdsample.c].
    """
    first, last = max(0, begin - 1) // unit, min(count, (begin + size) // unit + 1)
    return max(0, min(first, count - 2)), last
