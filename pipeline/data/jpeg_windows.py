"""Decodes a window of a JPEG: of what lies outside it, nothing becomes pixels.

The JPEGs that `pipeline.prepare` leaves behind say where each of their units of coding begins. The units of the window, and one
more on every side, are put together to a smaller JPEG, so that of what lies outside not even the bits are read. Owns no policy:
what the library refuses or warns of, and every machine without it, is `images.py`'s business. The invariant: a window has the
very pixels that it has when the whole picture is decoded.
"""

import numpy as np

from pipeline.data import libjpeg_turbo
from pipeline.data.crops import Window
from pipeline.data.headers import Header

_RESTART, _END = 0xD0, 0xD9  # the second byte of the markers RST0 (of eight) and EOI [ITU-T T.81, table B.1]


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
    # One more unit on either side, because smooth chroma looks one column further; left it must begin with a unit.
    unit = header.jpeg.unit_width
    first = max(0, left // unit - 1) * unit
    pixels = libjpeg_turbo.decode_region(data, (first, top, min(width, left + columns + unit) - first, height))
    return None if pixels is None else pixels[:, left - first : left - first + columns]


def excerpt(data: bytes, header: Header, window: Window) -> tuple[bytes, int, Window] | None:
    """Cuts the units of a window, and one more on every side, out of a JPEG with an index.

    Args:
        data: The bytes of the file.
        header: What `read_header` says of it.
        window: Top, left, height and width, inside the picture.

    Returns:
        A JPEG, its width in pixels and the window in it; None when the index is not that of this picture.
    """
    frame, (index_offset, index_bytes) = header.jpeg, header.jpeg.index
    rows, columns = frame.units(header.height, header.width)
    lengths = np.frombuffer(data, ">u2", index_bytes // 2, index_offset).astype(np.int64)
    interval = frame.restart_interval
    if not interval or columns % interval or lengths.size * interval != rows * columns:
        return None
    scan = frame.scan_offset + 1 + int.from_bytes(data[frame.scan_offset + 1 : frame.scan_offset + 3], "big")
    ends = scan + np.cumsum(lengths + 2)  # each behind its marker
    if ends[-1] != len(data):
        return None
    top, left, height, width = window
    first_row, last_row = max(0, top // frame.unit_height - 1), min(rows, -(-(top + height) // frame.unit_height) + 1)
    first, last = max(0, left // frame.unit_width - 1), min(columns, -(-(left + width) // frame.unit_width) + 1)
    first, last = first // interval, -(-last // interval)
    chosen = np.s_[first_row:last_row, first:last]
    ends = ends.reshape(rows, -1)[chosen]
    begins = ends[:, 0] - lengths.reshape(rows, -1)[chosen][:, 0] - 2
    sizes = ends[:, -1] - begins
    targets = np.cumsum(sizes) - sizes  # where each row of units goes
    source, target = np.frombuffer(data, np.uint8), np.empty(sizes.sum(), np.uint8)
    for begin, size, place in zip(begins.tolist(), sizes.tolist(), targets.tolist()):
        target[place : place + size] = source[begin : begin + size]
    markers = (ends - begins[:, None] + targets[:, None]).ravel() - 1
    if not (target[markers - 1] == 0xFF).all():
        return None
    target[markers] = _RESTART + np.arange(markers.size) % 8
    target[-1] = _END
    size = min(header.height, last_row * frame.unit_height), min(header.width, last * interval * frame.unit_width)
    offset = first_row * frame.unit_height, first * interval * frame.unit_width
    shape = size[0] - offset[0], size[1] - offset[1]
    head = bytearray(data[:scan])
    head[frame.height_offset : frame.height_offset + 4] = b"".join(number.to_bytes(2, "big") for number in shape)
    del head[2 : index_offset + index_bytes]  # the index comes first
    return b"".join((head, target)), shape[1], (top - offset[0], left - offset[1], height, width)
