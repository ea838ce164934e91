"""Decodes the bytes of an image file to uint8 RGB pixels.

The formats are JPEG (baseline, progressive, grey, CMYK), PNG (palette, alpha, grey, 16 bit), WebP, GIF (first frame) and BMP.
Colour and grey JPEGs equal the result of `tf.io.decode_jpeg` to the bit: fast integer DCT, smooth chroma. Alpha is dropped
and EXIF orientation is ignored, as in the published pipeline. An image that cannot be decoded completely raises
`DamagedImageError`. So does a header that claims more than `MAX_PIXELS`, before memory is allocated for it.
"""

from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg

from pipeline.data.crops import CropBox
from pipeline.data.decoding import jpeg_crops
from pipeline.data.decoding.headers import DamagedImageError, Header, JpegHeader, read_header

MAX_PIXELS = 1 << 26  # a progressive JPEG takes 9 bytes a pixel, so under 1 GiB
MAX_SCANNED_PIXELS = 1 << 28  # scans times pixels; about a second. 24 megapixels in 10 scans are below it


def decode(data: bytes, apply_exif_orientation: bool = False) -> np.ndarray:
    """Decodes an image of any supported format.

    Args:
        data: The bytes of the file.
        apply_exif_orientation: Whether to turn the image as its EXIF tag says.

    Returns:
        Pixels, uint8 RGB of shape `[height, width, 3]`.

    Raises:
        DamagedImageError: The format is unknown, the image is larger than `MAX_PIXELS`, or its data are damaged. A truncated
            JPEG is damaged; wrong bits inside it decode to wrong pixels, as in TensorFlow.
    """
    header = checked_header(data)
    if isinstance(header, JpegHeader) and not apply_exif_orientation:
        return _decode_jpeg(data, header)
    return _decode_with_opencv(data, header, apply_exif_orientation)


def decode_crop(
    data: bytes, choose_box: Callable[[int, int], CropBox], apply_exif_orientation: bool = False
) -> np.ndarray:
    """Decodes a crop of an image.

    Of a JPEG with an index, only the MCUs of the crop are decoded. Of one without, everything above the crop's bottom edge is
    decoded. The pixels equal those of the whole image.

    Args:
        data: The bytes of the file.
        choose_box: Takes height and width of the image and returns the crop box.
        apply_exif_orientation: Whether to turn the image as its EXIF tag says, before the box is chosen.

    Returns:
        The crop, uint8 RGB of shape `[crop height, crop width, 3]`; not contiguous.

    Raises:
        DamagedImageError: As `decode` does.
    """
    header = checked_header(data)
    if isinstance(header, JpegHeader) and not apply_exif_orientation:
        box = choose_box(header.height, header.width)
        if header.index and header.one_scan and header.components in (1, 3):
            pixels = jpeg_crops.decode_crop(data, header, box)
            if pixels is not None:
                return pixels
        top, left, height, width = box
        pixels = _decode_jpeg(data, header, bottom=top + height)
    else:
        pixels = _decode_with_opencv(data, header, apply_exif_orientation)
        top, left, height, width = choose_box(*pixels.shape[:2])
    return pixels[top : top + height, left : left + width]


def checked_header(data: bytes) -> Header:
    """Returns the header of an image that is not too large to decode.

    Raises:
        DamagedImageError: As for `decode`, as far as that shows without decoding.
    """
    header = read_header(data)
    if header.height < 1 or header.width < 1 or header.height * header.width > MAX_PIXELS:
        raise DamagedImageError(f"{header}; expected 1 to {MAX_PIXELS} pixels")
    if isinstance(header, JpegHeader):
        _check_scans(data, header)
    return header


def _check_scans(data: bytes, header: JpegHeader) -> None:
    """Refuses truncated JPEGs, and those that take far more time to decode than their length suggests.

    libjpeg's warnings are not errors, as in TensorFlow. Its most frequent one, a premature end, is checked here. Neither marker
    can occur inside a scan, where a byte of 255 is followed by 0 or belongs to a restart marker.
    """
    if data.rfind(b"\xff\xd9", header.scan_offset) < 0:
        raise DamagedImageError(f"{header} is cut off after {len(data)} bytes")
    if header.height * header.width // 64 * header.least_bits > 8 * len(data):
        raise DamagedImageError(f"{header}: {len(data)} bytes cannot hold as many")
    scans = 1 if header.one_scan else data.count(b"\xff\xda", header.scan_offset - 1)
    if scans * header.height * header.width > MAX_SCANNED_PIXELS:
        raise DamagedImageError(
            f"{header} in {scans} scans; expected at most {MAX_SCANNED_PIXELS} pixels in all of them"
        )


def _decode_jpeg(data: bytes, header: JpegHeader, bottom: int | None = None) -> np.ndarray:
    """Decodes a JPEG down to row `bottom` at least."""
    if bottom is not None and header.one_scan:
        # Smooth chroma reads one row further down, so decode one more row of MCUs.
        rows = (-(-bottom // header.mcu_height) + 1) * header.mcu_height
        if rows < header.height:
            shortened = bytearray(data)
            shortened[header.height_offset : header.height_offset + 2] = rows.to_bytes(2, "big")
            data = bytes(shortened)
    try:
        if header.components != 4:
            return simplejpeg.decode_jpeg(data, fastdct=True, strict=False)
        inks = simplejpeg.decode_jpeg(data, "CMYK", fastdct=True, strict=False)
    except ValueError as error:
        raise DamagedImageError(f"{header} does not decode: {error}") from error
    light = (inks if header.adobe else 255 - inks).astype(np.uint16)
    return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)


def _decode_with_opencv(data: bytes, header: Header, apply_exif_orientation: bool) -> np.ndarray:
    flags = cv2.IMREAD_COLOR_RGB | (0 if apply_exif_orientation else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DamagedImageError(f"{header} does not decode: {error}") from error
    if pixels is None:
        raise DamagedImageError(f"{header} does not decode")
    return pixels
