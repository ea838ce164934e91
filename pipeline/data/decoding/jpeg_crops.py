"""Decodes a crop of a JPEG to which `pipeline.prepare` has added an MCU index.

The MCUs of the crop are copied into a smaller JPEG, which any decoder reads, so the entropy coding of the rest is never
decoded. The pixels equal those of decoding the whole image. `images.py` handles JPEGs without an index, and those that the
decoder refuses or warns of.
"""

import numpy as np
import simplejpeg

from pipeline.data.crops import CropBox
from pipeline.data.decoding import mcu_index
from pipeline.data.decoding.headers import JpegHeader


def decode_crop(data: bytes, header: JpegHeader, box: CropBox) -> np.ndarray | None:
    """Decodes a crop of a JPEG with an index, with the fast DCT and smooth chroma.

    Args:
        data: The bytes of the file.
        header: The file's header.
        box: Top, left, height and width, inside the image.

    Returns:
        uint8 RGB `[crop height, crop width, 3]`, not contiguous. None if there is no index, it does not fit the image, or the
        decoder warns.
    """
    found = excerpt(data, header, box)
    if found is None:
        return None
    smaller, (top, left, height, width) = found
    try:
        pixels = simplejpeg.decode_jpeg(smaller, fastdct=True, strict=True)
    except ValueError:
        return None
    return pixels[top : top + height, left : left + width]


def excerpt(data: bytes, header: JpegHeader, box: CropBox) -> tuple[bytes, CropBox] | None:
    """Copies the MCUs of a crop from a JPEG with an index into a smaller JPEG.

    Args:
        data: The bytes of the file.
        header: The file's header.
        box: Top, left, height and width, inside the image.

    Returns:
        The smaller JPEG and the crop box in it; None if there is no index or it does not fit the image.
    """
    if header.index is None:
        return None
    shape = header.mcus()
    top, left, height, width = box
    rows = _mcus_needed(top, height, header.mcu_height, shape[0])
    columns = _mcus_needed(left, width, header.mcu_width, shape[1])
    scan = header.scan_offset + 1
    begin = scan + int.from_bytes(data[scan : scan + 2], "big")
    out = np.empty(mcu_index.max_written(len(data)) + 32 * shape[0], np.uint8)
    source = np.frombuffer(data, np.uint8)
    written = mcu_index.cut(source, header.height_offset, scan, header.index, shape, rows, columns, out)
    if not written:
        return None
    bounds = min(header.height, rows[1] * header.mcu_height), min(header.width, columns[1] * header.mcu_width)
    offset = rows[0] * header.mcu_height, columns[0] * header.mcu_width
    size = bounds[0] - offset[0], bounds[1] - offset[1]
    head = bytearray(data[:begin])
    head[header.height_offset : header.height_offset + 4] = b"".join(number.to_bytes(2, "big") for number in size)
    del head[2 : sum(header.index)]  # the index comes first
    return b"".join((head, out[:written].data)), (top - offset[0], left - offset[1], height, width)


def _mcus_needed(begin: int, size: int, mcu: int, count: int) -> tuple[int, int]:
    """Returns the range [first, end) of MCUs along an axis that the pixels [begin, begin + size) need.

    Smooth chroma reads the samples of the pixel before and the pixel after. The last MCU is never taken alone: it may be so
    narrow that libjpeg would not smooth its chroma [jdsample.c].
    """
    first, last = max(0, begin - 1) // mcu, min(count, (begin + size) // mcu + 1)
    return max(0, min(first, count - 2)), last
