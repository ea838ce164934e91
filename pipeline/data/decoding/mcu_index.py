"""The MCU index of a JPEG: where in the scan every few MCUs begin, and the DC values there.

The index is an APP9 segment in front of all others. It has a name, two bytes for the number of MCUs of an entry, and the
entries. An entry has two bytes for the number of bits of its MCUs in the file, and two for the DC value of each component
before them, all big-endian. The scan stays as it is. Of damaged or hostile data the loops here return 0.
"""

import numpy as np

from pipeline.data.compiled_loops import compiled
from pipeline.data.decoding.bits import MARGIN, end_segment, find_marker, take_plain
from pipeline.data.decoding.huffman import MOST_COMPONENTS, read_scan_header
from pipeline.data.decoding.jpeg_scans import skip_mcus, write_mcus

MOST_CONTENT = 0xFFFF - 2  # bytes of a segment [ITU-T T.81, B.1.1.4]
_RESTART, _END = 0xD0, 0xD9  # the second byte of the markers RST0 (of eight) and EOI [T.81, table B.1]


@compiled
def entry_bytes(components: int) -> int:
    """Returns how many bytes an entry takes."""
    return 2 + 2 * components


@compiled
def find_mcus(
    data: np.ndarray, frame: int, scan: int, mcus: int, interval: int, starts: np.ndarray, dc_values: np.ndarray
) -> bool:
    """Finds every `interval`-th MCU of a scan without restart markers.

    Args:
        data: A JPEG, uint8 `[bytes]`.
        frame: Offset of the height in the frame header.
        scan: Offset of the length of the scan header.
        mcus: Number of MCUs in the scan.
        interval: Number of MCUs of an entry.
        starts: int64 `[entries + 1]`; receives the position of each entry in the scan, and that of the end, in bits.
        dc_values: int64 `[entries, MOST_COMPONENTS]`; receives the DC values before each entry.

    Returns:
        Whether the scan matches its headers to the last bit.
    """
    blocks, tables = read_scan_header(data, frame, scan)
    begin = _begin_of_data(data, scan)
    end = find_marker(data, begin)
    if len(blocks) == 0 or end > len(data) - 2 or data[end + 1] != _END:
        return False
    bits = np.empty(end - begin + MARGIN, np.uint8)
    zeros = np.empty(end - begin + 1, np.int64)
    zeros[0] = 0
    length = take_plain(data, begin, end, bits, 0, zeros)
    if length < 0:
        return False
    dc = np.zeros(MOST_COMPONENTS, np.int64)
    position, passed, count = 0, 1, zeros[0]
    for entry in range(len(dc_values)):
        while passed <= count and zeros[passed] <= position >> 3:
            passed += 1
        starts[entry] = position + 8 * (passed - 1)
        dc_values[entry] = dc
        position = skip_mcus(bits, position, 8 * length, min(interval, mcus - entry * interval), blocks, tables, dc)
        if position < 0:
            return False
    starts[-1] = position + 8 * count
    return position > 8 * (length - 1)


@compiled
def join_segments(data: np.ndarray, frame: int, scan: int, mcus: int, interval: int, out: np.ndarray) -> int:
    """Rewrites the data of a scan without its restart markers.

    Args:
        data: A JPEG, uint8 `[bytes]`.
        frame: Offset of the height in the frame header.
        scan: Offset of the length of the scan header.
        mcus: Number of MCUs in the scan.
        interval: Number of MCUs between two restart markers.
        out: uint8, twice as long as `data`.

    Returns:
        The number of bytes written, including the final marker; 0 if the scan does not match its headers.
    """
    blocks, tables = read_scan_header(data, frame, scan)
    position = _begin_of_data(data, scan)
    if len(blocks) == 0:
        return 0
    bits = np.empty(len(data) + MARGIN, np.uint8)
    before, state, zeros = _dc(), np.zeros(3, np.int64), np.zeros(1, np.int64)
    segments = (mcus + interval - 1) // interval
    for segment in range(segments):
        end = find_marker(data, position)
        expected = _END if segment == segments - 1 else _RESTART + segment % 8
        if end > len(data) - 2 or data[end + 1] != expected:
            return 0
        length = take_plain(data, position, end, bits, 0, zeros)
        if length < 0 or state[0] + most_written(length) > len(out):
            return 0
        dc = _dc()
        behind = skip_mcus(bits, 0, 8 * length, min(interval, mcus - segment * interval), blocks, tables, dc)
        if behind <= 8 * (length - 1):
            return 0
        if write_mcus(bits, 0, behind, behind, blocks, tables, _dc(), before, out, state) < 0:
            return 0
        before = dc
        position = end + 2
    end_segment(_END, out, state)
    return state[0]


@compiled
def cut(
    data: np.ndarray,
    frame: int,
    scan: int,
    index: tuple[int, int],
    shape: tuple[int, int],
    rows: tuple[int, int],
    columns: tuple[int, int],
    out: np.ndarray,
) -> int:
    """Copies a rectangle of MCUs into the data of a new scan.

    Args:
        data: A JPEG with an index, uint8 `[bytes]`.
        frame: Offset of the height in the frame header.
        scan: Offset of the length of the scan header.
        index: Offset of the index after its name, and its length in bytes.
        shape: Rows and columns of MCUs of the image.
        rows: The range [first, end) of rows of MCUs.
        columns: The range of columns, likewise.
        out: uint8; `most_written` bytes.

    Returns:
        The number of bytes written, including the final marker; 0 if the index does not fit the image.
    """
    components = np.int64(data[frame + 4])
    begin, interval, starts = _read_index(data, scan, index, shape[0] * shape[1], components)
    blocks, tables = read_scan_header(data, frame, scan)
    if len(starts) == 0 or len(blocks) == 0 or interval > shape[1]:
        return 0
    entries = len(starts) - 1
    bits = np.empty(len(data) - begin + MARGIN, np.uint8)
    before, dc, dc_behind, state, zeros = _dc(), _dc(), _dc(), np.zeros(3, np.int64), np.zeros(1, np.int64)
    for row in range(rows[0], rows[1]):
        first, last = row * shape[1] + columns[0], row * shape[1] + columns[1]
        entry, last_entry = first // interval, last // interval
        beyond = starts[min(last_entry + 1, entries)]
        position_behind, length = _take(data, begin, starts[entry], starts[last_entry], beyond, bits, zeros)
        if length < 0 or state[0] + most_written(length) > len(out):
            return 0
        _read_dc(data, index[0] + 2 + entry * entry_bytes(components), components, dc)
        skipped = first - entry * interval
        position = skip_mcus(bits, starts[entry] & 7, 8 * length, skipped, blocks, tables, dc)
        if position < 0:
            return 0
        if entry == last_entry:
            dc_behind[:] = dc
            position_behind, skipped = position, last - first
        elif last_entry < entries:
            _read_dc(data, index[0] + 2 + last_entry * entry_bytes(components), components, dc_behind)
            skipped = last - last_entry * interval
        else:
            skipped = 0
        behind = skip_mcus(bits, position_behind, 8 * length, skipped, blocks, tables, dc_behind)
        if behind < position:
            return 0
        if write_mcus(bits, position, behind, behind, blocks, tables, dc, before, out, state) < 0:
            return 0
        before[:] = dc_behind
    end_segment(_END, out, state)
    return state[0]


@compiled
def first_mcus(
    data: np.ndarray, frame: int, scan: int, index: tuple[int, int], mcus: int, count: int, out: np.ndarray
) -> int:
    """Copies the first MCU of each entry into the data of a new scan.

    Args:
        data: A JPEG with an index, uint8 `[bytes]`.
        frame: Offset of the height in the frame header.
        scan: Offset of the length of the scan header.
        index: Offset of the index after its name, and its length in bytes.
        mcus: Number of MCUs of the image.
        count: Number of MCUs to write, at least one for each entry; the last one is repeated.
        out: uint8.

    Returns:
        The number of bytes written, including the final marker; 0 if the index does not fit the image.
    """
    components = np.int64(data[frame + 4])
    begin, interval, starts = _read_index(data, scan, index, mcus, components)
    blocks, tables = read_scan_header(data, frame, scan)
    if len(starts) == 0 or len(blocks) == 0:
        return 0
    bits = np.empty(len(data) - begin + MARGIN, np.uint8)
    before, dc, state, zeros = _dc(), _dc(), np.zeros(3, np.int64), np.zeros(1, np.int64)
    for number in range(count):
        entry = min(number, len(starts) - 2)
        end, length = _take(data, begin, starts[entry], starts[entry + 1], starts[entry + 1], bits, zeros)
        if length < 0 or state[0] + most_written(length) > len(out):
            return 0
        _read_dc(data, index[0] + 2 + entry * entry_bytes(components), components, dc)
        if write_mcus(bits, starts[entry] & 7, -1, 8 * length, blocks, tables, dc, before, out, state) < 0:
            return 0
        before[:] = dc
        if number == count - 1:
            left = mcus - entry * interval
            if skip_mcus(bits, starts[entry] & 7, 8 * length, left, blocks, tables, dc) != end:
                return 0
    end_segment(_END, out, state)
    return state[0]


@compiled
def same_mcus(
    whole: np.ndarray,
    firsts: np.ndarray,
    entries: int,
    interval: int,
    columns: int,
    across: int,
    mcu: tuple[int, int],
) -> bool:
    """Returns whether the first MCU of each entry has the same pixels as in the whole image.

    Args:
        whole: The image, uint8 `[height, width, 3]`.
        firsts: The first MCUs of the entries, in rows of `across`, uint8 `[height, width, 3]`.
        entries: Number of entries.
        interval: Number of MCUs of an entry.
        columns: Number of MCUs in a row of the image.
        across: Number of MCUs in a row of `firsts`.
        mcu: Height and width of an MCU in pixels.
    """
    for entry in range(entries):
        row, column = entry * interval // columns, entry * interval % columns
        top, left = row * mcu[0], column * mcu[1]
        other_top, other_left = entry // across * mcu[0], entry % across * mcu[1]
        for y in range(min(mcu[0], len(whole) - top)):  # the last MCUs may extend beyond the image
            for x in range(min(mcu[1], whole.shape[1] - left)):
                for channel in range(3):
                    if whole[top + y, left + x, channel] != firsts[other_top + y, other_left + x, channel]:
                        return False
    return True


@compiled
def most_written(length: int) -> int:
    """Returns the most bytes that MCUs of `length` plain bytes can take, including the final marker."""
    return 2 * (length + 16) + 8  # each byte may become 255, which takes two; DC differences take up to 108 bits more


@compiled
def _dc() -> np.ndarray:
    return np.zeros(MOST_COMPONENTS, np.int64)


@compiled
def _begin_of_data(data: np.ndarray, scan: int) -> int:
    """Returns the offset of the data of a scan; its header's length is at `scan`."""
    return scan + (np.int64(data[scan]) << 8 | np.int64(data[scan + 1]))


@compiled
def _take(
    data: np.ndarray, begin: int, first: int, middle: int, last: int, bits: np.ndarray, zeros: np.ndarray
) -> tuple[int, int]:
    """Copies the plain bytes of a scan between two of its bits.

    Returns:
        The position of `middle` in the copied bits, and the number of copied bytes; -1 at a marker.
    """
    length = take_plain(data, begin + (first >> 3), begin + (middle >> 3), bits, 0, zeros)
    if length < 0:
        return 0, -1
    position = 8 * length + (middle & 7)
    length = take_plain(data, begin + (middle >> 3), begin + (last + 7 >> 3), bits, length, zeros)
    return position, length


@compiled
def _read_index(
    data: np.ndarray, scan: int, index: tuple[int, int], mcus: int, components: int
) -> tuple[int, int, np.ndarray]:
    """Reads an index.

    Returns:
        The offset of the data of the scan, the number of MCUs of an entry, and the positions of the entries and of the end in
        the scan, in bits, int64 `[entries + 1]`; empty if the index does not fit the image.
    """
    begin, starts = _begin_of_data(data, scan), np.zeros(0, np.int64)
    place, size = index
    if size < 2 or place + size > len(data):
        return begin, 0, starts
    interval = np.int64(data[place]) << 8 | np.int64(data[place + 1])
    if interval == 0:
        return begin, 0, starts
    entries = (mcus + interval - 1) // interval
    if size != 2 + entries * entry_bytes(components):
        return begin, 0, starts
    found = np.zeros(entries + 1, np.int64)
    place += 2
    for entry in range(entries):
        found[entry + 1] = found[entry] + (np.int64(data[place]) << 8 | np.int64(data[place + 1]))
        place += entry_bytes(components)
    end = begin + (found[entries] + 7 >> 3)
    if end + 2 > len(data) or data[end] != 255 or data[end + 1] != _END:
        return begin, 0, starts
    return begin, interval, found


@compiled
def _read_dc(data: np.ndarray, place: int, components: int, dc: np.ndarray) -> None:
    """Reads the DC values of an entry that begins at `place`."""
    for component in range(components):
        first = place + 2 + 2 * component
        value = np.int64(data[first]) << 8 | np.int64(data[first + 1])
        dc[component] = value - (1 << 16) if value >> 15 else value
