"""From the bytes of a picture file to uint8 RGB pixels.

The format is found in the content, never in a name: JPEG (baseline, progressive, grey, CMYK), PNG (palette, alpha,
grey, 16 bit), WebP, GIF (first frame) and BMP. Alpha is dropped and EXIF orientation is ignored, as the published
pipeline does. Nothing here is random and nothing is replaced silently: a picture that cannot be decoded in full, or
whose header asks for more than `MAX_PIXELS`, raises `DamagedPicture`, the latter before any memory is taken for its
pixels.
"""

import struct

import cv2
import numpy as np

MAX_PIXELS = 1 << 27  # 384 MiB of RGB: a decoder that holds two copies stays under 1 GiB


class DamagedPicture(ValueError):
    """A picture that cannot be decoded; the message says why."""


def decode(data: bytes, apply_exif_orientation: bool = False) -> np.ndarray:
    """Decodes a picture of any supported format.

    Args:
        data: The bytes of the file.
        apply_exif_orientation: Whether to turn the picture as its EXIF tag says.

    Returns:
        Pixels, uint8 RGB of shape `[height, width, 3]`.

    Raises:
        DamagedPicture: If the format is unknown, the picture is larger than `MAX_PIXELS` or its data is damaged.
    """
    height, width = picture_size(data)
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise DamagedPicture(f"a picture of {width} x {height} pixels; expected 1 to {MAX_PIXELS} pixels")
    flags = cv2.IMREAD_COLOR_RGB
    if not apply_exif_orientation:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DamagedPicture(f"a picture of {width} x {height} pixels does not decode: {error}") from error
    if pixels is None:
        raise DamagedPicture(f"a picture of {width} x {height} pixels does not decode")
    return pixels


def picture_size(data: bytes) -> tuple[int, int]:
    """Reads height and width from a picture's header, without decoding.

    Raises:
        DamagedPicture: If the format is unknown or the header is cut off.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg_size(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_size(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            width, height = struct.unpack_from(">II", data, 16)
        elif data[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", data, 6)
        elif data[:2] == b"BM":
            width, height = struct.unpack_from("<ii", data, 18)
        else:
            raise DamagedPicture(f"unknown picture format: the data begins with {bytes(data[:8])!r}")
    except (struct.error, IndexError):
        raise DamagedPicture(f"the header is cut off: {len(data)} bytes in all") from None
    return abs(height), width


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Finds the frame header (SOF0 to SOF15, ITU-T T.81 B.2.2) among the marker segments."""
    position = 2
    while True:
        while data[position] != 0xFF:
            position += 1
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HH", data, position + 4)
        if marker in (0xD9, 0xDA):
            raise DamagedPicture("a JPEG without a frame header")
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 1
        else:
            position += 1 + struct.unpack_from(">H", data, position + 1)[0]


def _webp_size(data: bytes) -> tuple[int, int]:
    """Reads the first chunk of a WebP file: VP8 (RFC 6386 9.1), VP8L or VP8X (RFC 9649)."""
    chunk = data[12:16]
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if chunk == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return int.from_bytes(data[27:30], "little") + 1, width
    raise DamagedPicture(f"unknown kind of WebP: {bytes(chunk)!r}")
