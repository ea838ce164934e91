"""The index of a JPEG: where in its scan each few MCUs begin, and the DC values there.

Owns the form of the index and the loops that make and use it. It lies in a segment APP9 in front of all others: a name, two
bytes for the number of MCUs that an entry stands for, and the entries. An entry has two bytes for the number of bits of its
MCUs in the file and two for the DC value of each component before them, big-endian. The scan itself stays as it is. The data
that a loop is given may be damaged or hostile; it then returns 0.
"""

import numpy as np

from pipeline.data.compiled_loops import compiled
from pipeline.data.decoding import jpeg_scans
from pipeline.data.decoding.jpeg_scans import MARGIN, MOST_COMPONENTS, end_segment, skip_mcus, take_plain, write_mcus

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
        frame: Where the height is, in the frame header.
        scan: Where the length of the scan header is.
        mcus: How many MCUs the scan has.
        interval: How many MCUs an entry stands for.
        starts: int64 `[entries + 1]`; takes the bits from the first of the scan to each entry, and to the end.
        dc_values: int64 `[entries, MOST_COMPONENTS]`; takes the DC values before each entry.

    Returns:
        Whether the scan is what its headers say, to the last bit.
    """
    blocks, tables = jpeg_scans.read_scan_header(data, frame, scan)
    begin = _begin_of_data(data, scan)
    end = jpeg_scans.find_marker(data, begin)
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
    """Writes the data of a scan with restart markers without them.

    Args:
        data: A JPEG, uint8 `[bytes]`.
        frame: Where the height is, in the frame header.
        scan: Where the length of the scan header is.
        mcus: How many MCUs the scan has.
        interval: How many of them are between two markers.
        out: uint8, twice as long as `data`.

    Returns:
        How many bytes are written, with the marker behind the last; 0 where the scan is not what its headers say.
    """
    blocks, tables = jpeg_scans.read_scan_header(data, frame, scan)
    position = _begin_of_data(data, scan)
    if len(blocks) == 0:
        return 0
    bits = np.empty(len(data) + MARGIN, np.uint8)
    before, state, zeros = _dc(), np.zeros(3, np.int64), np.zeros(1, np.int64)
    segments = (mcus + interval - 1) // interval
    for segment in range(segments):
        end = jpeg_scans.find_marker(data, position)
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
    """Puts a rectangle of MCUs together to the data of a scan.

    Args:
        data: A JPEG with an index, uint8 `[bytes]`.
        frame: Where the height is, in the frame header.
        scan: Where the length of the scan header is.
        index: Where the index begins, behind its name, and how many bytes it has.
        shape: How many MCUs the image has down and across.
        rows: The first of the rectangle and the one behind its last.
        columns: As `rows`.
        out: uint8; `most_written` bytes.

    Returns:
        How many bytes are written, with the marker behind the last; 0 when the index is not that of this image.
    """
    components = np.int64(data[frame + 4])
    begin, interval, starts = _read_index(data, scan, index, shape[0] * shape[1], components)
    blocks, tables = jpeg_scans.read_scan_header(data, frame, scan)
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
    """Writes the first MCU of each entry, one behind the other, as the data of a scan.

    Args:
        data: A JPEG with an index, uint8 `[bytes]`.
        frame: Where the height is, in the frame header.
        scan: Where the length of the scan header is.
        index: Where the index begins, behind its name, and how many bytes it has.
        mcus: How many MCUs the image has.
        count: How many MCUs to write, at least one for each entry: the last one is repeated.
        out: uint8.

    Returns:
        How many bytes are written, with the marker behind the last; 0 when the index is not that of this image.
    """
    components = np.int64(data[frame + 4])
    begin, interval, starts = _read_index(data, scan, index, mcus, components)
    blocks, tables = jpeg_scans.read_scan_header(data, frame, scan)
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
    """Returns whether the first MCUs of the entries of an index have the pixels that they have in the whole image.

    Args:
        whole: The image, uint8 `[height, width, 3]`.
        firsts: The first MCUs, in rows of `across`, uint8 `[height, width, 3]`.
        entries: How many entries.
        interval: How many MCUs an entry stands for.
        columns: How many MCUs a row of the image has.
        across: How many MCUs a row of `firsts` has.
        mcu: Height and width of an MCU in pixels.
    """
    for entry in range(entries):
        row, column = entry * interval // columns, entry * interval % columns
        top, left = row * mcu[0], column * mcu[1]
        other_top, other_left = entry // across * mcu[0], entry % across * mcu[1]
        for y in range(min(mcu[0], len(whole) - top)):  # the last MCUs may reach beyond the image
            for x in range(min(mcu[1], whole.shape[1] - left)):
                for channel in range(3):
                    if whole[top + y, left + x, channel] != firsts[other_top + y, other_left + x, channel]:
                        return False
    return True


@compiled
def most_written(length: int) -> int:
    """Returns the most bytes that MCUs of `length` plain bytes can become, with the marker behind them."""
    return 2 * (length + 16) + 8  # every byte may become 255, which takes two; DC differences take up to 108 bits more


@compiled
def _dc() -> np.ndarray:
    return np.zeros(MOST_COMPONENTS, np.int64)


@compiled
def _begin_of_data(data: np.ndarray, scan: int) -> int:
    """Returns where the data of a scan begins whose header has its length at `scan`."""
    return scan + (np.int64(data[scan]) << 8 | np.int64(data[scan + 1]))


@compiled
def _take(
    data: np.ndarray, begin: int, first: int, middle: int, last: int, bits: np.ndarray, zeros: np.ndarray
) -> tuple[int, int]:
    """Takes the plain bytes of a scan between two bits of it.

    Returns:
        Where among the bits taken the one is that `middle` is in the scan, and how many bytes are taken; -1 at a marker.
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
        Where the data of the scan begin, the number of MCUs of an entry, and the bits from the first of the scan to each entry
        and to the end, int64 `[entries + 1]`: none, when the index is not that of this image.
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
