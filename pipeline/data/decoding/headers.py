"""Reads the header of an image file: its format and size, and the layout of a JPEG.

Only headers are read, so a file that claims gigabytes of pixels is refused before it reaches a decoder. The format is
recognised by the content, never by the file name.
"""

import dataclasses
import struct
from collections.abc import Iterator

from pipeline.errors import DataError

MCU_INDEX = b"mcu index\0"  # the first bytes of the APP9 segment that holds the index
_SAMPLINGS = {across << 4 | down for across in range(1, 5) for down in range(1, 5)}  # ITU-T T.81, B.2.2


class DamagedImageError(DataError):
    """The image cannot be decoded; the message says why."""


@dataclasses.dataclass(frozen=True)
class Header:
    """An image's header.

    Attributes:
        format: "jpeg", "png", "gif", "bmp" or "webp".
        height: In pixels, as stored: EXIF orientation is not applied.
        width: In pixels, as stored.
    """

    format: str
    height: int
    width: int

    def __str__(self) -> str:
        return f"a {self.format} image of {self.width} x {self.height} pixels"


@dataclasses.dataclass(frozen=True)
class JpegHeader(Header):
    """The header of a JPEG: what its frame and scan headers say (ITU-T T.81, B.2.2 and B.2.3).

    Attributes:
        components: 1 for grey, 3 for colour, 4 for CMYK.
        height_offset: Offset in the file of the two bytes of the height.
        scan_offset: Offset in the file of the first scan.
        one_scan: Whether the whole image is in a single sequential scan.
        mcu_height: Height of an MCU, the minimum coded unit, in pixels.
        mcu_width: Width of an MCU in pixels.
        least_bits: The fewest bits that a block of 64 pixels can take: one for each code. 0: unknown.
        adobe: Whether there is an Adobe marker; its CMYK is stored inverted.
        restart_interval: MCUs between two restart markers; 0: there are none.
        index: Offset of the MCU index after its name, and its length in bytes; see `mcu_index.py`. None: there is no index.
    """

    components: int
    height_offset: int
    scan_offset: int
    one_scan: bool
    mcu_height: int
    mcu_width: int
    least_bits: int
    adobe: bool
    restart_interval: int = 0
    index: tuple[int, int] | None = None

    def mcus(self) -> tuple[int, int]:
        """Returns the number of rows and of columns of MCUs."""
        return -(-self.height // self.mcu_height), -(-self.width // self.mcu_width)


def read_header(data: bytes) -> Header:
    """Reads the header of an image; that of a JPEG is a `JpegHeader`.

    Raises:
        DamagedImageError: The format is unknown, or the header is truncated or invalid.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg_header(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            width, height = struct.unpack_from(">II", data, 16)
            return Header("png", height, width)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", data, 6)
            return Header("gif", height, width)
        if data[:2] == b"BM":
            core = struct.unpack_from("<I", data, 14) == (12,)
            width, height = struct.unpack_from("<HH" if core else "<ii", data, 18)
            return Header("bmp", abs(height), width)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return Header("webp", *_webp_size(data))
    except (struct.error, IndexError):
        raise DamagedImageError(f"the header is cut off: {len(data)} bytes in all") from None
    raise DamagedImageError(f"unknown image format: the data begins with {data[:8]!r}")


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Reads the header of a JPEG.

    Raises:
        DamagedImageError: As for `read_header`, and if the file is of another format.
    """
    header = read_header(data)
    if not isinstance(header, JpegHeader):
        raise DamagedImageError(f"{header}; expected a JPEG")
    return header


@dataclasses.dataclass
class _JpegReader:
    """The fields found in the segments of a JPEG so far.

    `position` is that of a marker's second byte; the length follows it.
    """

    data: bytes
    height: int = 0
    width: int = 0
    components: int = 0
    height_offset: int = 0
    sequential: bool = False
    mcu_height: int = 0
    mcu_width: int = 0
    least_bits: int = 0
    adobe: bool = False
    restart_interval: int = 0
    index: tuple[int, int] | None = None

    def frame(self, marker: int, position: int, length: int) -> None:
        self.height, self.width, self.components = struct.unpack_from(">HHB", self.data, position + 4)
        sampling = self.data[position + 10 : position + 9 + 3 * self.components : 3]
        if any(factors not in _SAMPLINGS for factors in sampling):
            raise DamagedImageError("a JPEG whose sampling factors are not 1 to 4")
        self.height_offset, self.sequential = position + 4, marker in _SEQUENTIAL
        # DC and end of block; DC; arithmetic coding
        self.least_bits = 2 if self.sequential else 1 if marker == _PROGRESSIVE else 0
        several = self.components > 1  # a single component has MCUs of one block [T.81, A.2.2]
        self.mcu_height = 8 * max((factors & 15 for factors in sampling if several), default=1)
        self.mcu_width = 8 * max((factors >> 4 for factors in sampling if several), default=1)

    def restarts(self, marker: int, position: int, length: int) -> None:
        (self.restart_interval,) = struct.unpack_from(">H", self.data, position + 3)

    def mcu_index(self, marker: int, position: int, length: int) -> None:
        if position == 3 and self.data.startswith(MCU_INDEX, position + 3):
            self.index = position + 3 + len(MCU_INDEX), length - 2 - len(MCU_INDEX)

    def adobe_marker(self, marker: int, position: int, length: int) -> None:
        self.adobe = self.adobe or self.data[position + 3 : position + 8] == b"Adobe"

    def end(self, marker: int, position: int, length: int) -> None:
        raise DamagedImageError("a JPEG without a scan")

    def header(self, scan: int) -> JpegHeader:
        """Returns the header of an image whose first scan is at `scan`."""
        if not self.components:
            raise DamagedImageError("a JPEG without a frame header")
        return JpegHeader(
            format="jpeg",
            height=self.height,
            width=self.width,
            components=self.components,
            height_offset=self.height_offset,
            scan_offset=scan,
            one_scan=self.sequential and self.data[scan + 3] == self.components,
            mcu_height=self.mcu_height,
            mcu_width=self.mcu_width,
            least_bits=self.least_bits,
            adobe=self.adobe,
            restart_interval=self.restart_interval,
            index=self.index,
        )


# The second byte of each marker [ITU-T T.81, table B.1], and the reader of its segment.
_SEQUENTIAL, _PROGRESSIVE, _START_OF_SCAN = (0xC0, 0xC1), 0xC2, 0xDA
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_HANDLERS = {
    **dict.fromkeys({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}, _JpegReader.frame),
    0xD9: _JpegReader.end,
    0xDD: _JpegReader.restarts,
    0xE9: _JpegReader.mcu_index,
    0xEE: _JpegReader.adobe_marker,
}


def _jpeg_header(data: bytes) -> JpegHeader:
    reader = _JpegReader(data)
    for marker, position, length in _segments(data):
        if marker == _START_OF_SCAN:
            return reader.header(position)
        if marker in _HANDLERS:
            _HANDLERS[marker](reader, marker, position, length)
    raise IndexError


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields marker, offset and length of each segment; bytes between segments are skipped, as decoders do."""
    position = data.find(b"\xff", 2)
    while position >= 0:
        while data[position] == 0xFF:
            position += 1
        if data[position] in _WITHOUT_LENGTH:
            position += 1
        else:
            (length,) = struct.unpack_from(">H", data, position + 1)
            yield data[position], position, length
            position += 1 + length
        position = data.find(b"\xff", position)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Reads height and width from the first chunk: VP8 (RFC 6386, 9.1), VP8L or VP8X (RFC 9649)."""
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
    raise DamagedImageError(f"unknown kind of WebP: {chunk!r}")
