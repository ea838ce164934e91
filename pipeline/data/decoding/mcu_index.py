"""The MCU index of a JPEG: the positions of every n-th MCU in the scan, and the DC values there.

An MCU (minimum coded unit) is the smallest group of blocks that a scan codes together. Each MCU is Huffman-coded and its DC
values are differences, so without an index a decoder must read the scan from its start. With it a crop can begin at any entry.

The index is an APP9 segment in front of all other segments. It has a name, two bytes for the number of MCUs per entry, and the
entries. An entry has two bytes for the length of its MCUs in the file, in bits with stuffed zeros. Two more bytes for each
component hold the DC value before the entry. Numbers are big-endian, and DC values are signed. The scan itself stays unchanged.

The data may be damaged or hostile. No loop here reads or writes outside its arrays, and none raises. They return 0 or False if
the data do not match the headers or the index. For positions and unstuffed bytes see `bits.py`.
"""

import numpy as np

from pipeline.data.compiled_loops import compiled
from pipeline.data.decoding.bits import MARGIN, end_segment, find_marker, unstuff
from pipeline.data.decoding.huffman import MAX_COMPONENTS, read_scan_header
from pipeline.data.decoding.jpeg_scans import skip_mcus, write_mcus

MAX_CONTENT = 0xFFFF - 2  # bytes of a segment after its length [ITU-T T.81, B.1.1.4]
# The second bytes of the markers RST0 and EOI [T.81, table B.1]. RST1 to RST7 follow RST0.
_RESTART, _END = 0xD0, 0xD9


@compiled
def entry_bytes(components: int) -> int:
    """Returns the size of an entry in bytes, for an image with that many components."""
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
        interval: Number of MCUs per entry; the last entry may have fewer.
        starts: int64 `[entries + 1]`; receives the position of each entry and of the end, in bits from the start of the
            entropy-coded data, stuffed zeros included.
        dc_values: int64 `[entries, MAX_COMPONENTS]`; receives the DC values before each entry.

    Returns:
        Whether the scan ends with the last MCU and the marker EOI. If not, the content of both arrays is undefined.
    """
    blocks, tables = read_scan_header(data, frame, scan)
    begin = _data_begin(data, scan)
    end = find_marker(data, begin)
    if len(blocks) == 0 or end > len(data) - 2 or data[end + 1] != _END:
        return False
    bits = np.empty(end - begin + MARGIN, np.uint8)
    zeros = np.empty(end - begin + 1, np.int64)
    zeros[0] = 0
    length = unstuff(data, begin, end, bits, 0, zeros)
    if length < 0:
        return False
    dc = np.zeros(MAX_COMPONENTS, np.int64)
    position, next_zero, count = 0, 1, zeros[0]
    for entry in range(len(dc_values)):
        while next_zero <= count and zeros[next_zero] <= position >> 3:
            next_zero += 1
        starts[entry] = position + 8 * (next_zero - 1)  # the stuffed zeros before it count in the file
        dc_values[entry] = dc
        position = skip_mcus(bits, position, 8 * length, min(interval, mcus - entry * interval), blocks, tables, dc)
        if position < 0:
            return False
    starts[-1] = position + 8 * count
    return position > 8 * (length - 1)  # only padding bits of the last byte may follow


@compiled
def join_segments(data: np.ndarray, frame: int, scan: int, mcus: int, interval: int, out: np.ndarray) -> int:
    """Rewrites the entropy-coded data of a scan without its restart markers.

    A restart marker resets the DC prediction. So the first DC difference of each component after it is recoded. All other
    bits are copied.

    Args:
        data: A JPEG, uint8 `[bytes]`.
        frame: Offset of the height in the frame header.
        scan: Offset of the length of the scan header.
        mcus: Number of MCUs in the scan.
        interval: Number of MCUs between two restart markers.
        out: uint8; receives the data. Callers allow `max_written(len(data))` bytes, and 64 more for each restart interval.

    Returns:
        The number of bytes written, including the final marker; 0 if the scan does not match its headers or `out` is too short.
    """
    blocks, tables = read_scan_header(data, frame, scan)
    position = _data_begin(data, scan)
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
        length = unstuff(data, position, end, bits, 0, zeros)
        if length < 0 or state[0] + max_written(length) > len(out):
            return 0
        dc = _dc()
        after = skip_mcus(bits, 0, 8 * length, min(interval, mcus - segment * interval), blocks, tables, dc)
        if after <= 8 * (length - 1):  # only padding bits of the last byte may follow
            return 0
        if write_mcus(bits, 0, after, after, blocks, tables, _dc(), before, out, state) < 0:
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
    """Copies a rectangle of MCUs into the entropy-coded data of a new scan.

    Each row of the rectangle is one run of MCUs. It begins at the entry before its first MCU, and Huffman codes are read from
    there on. Inside a run the bits are copied. Only the first DC difference of each component is recoded.

    Args:
        data: A JPEG with an index, uint8 `[bytes]`.
        frame: Offset of the height in the frame header.
        scan: Offset of the length of the scan header.
        index: Offset of the index after its name, and the length in bytes from there on.
        shape: The numbers of MCU rows and MCU columns of the image.
        rows: The MCU rows of the rectangle, [first, end).
        columns: The MCU columns of the rectangle, [first, end).
        out: uint8; receives the data. Callers allow `max_written(len(data))` bytes, and 32 more for each MCU row.

    Returns:
        The number of bytes written, including the final marker; 0 if the index does not fit the image or `out` is too short.
    """
    components = np.int64(data[frame + 4])
    begin, interval, starts = _read_index(data, scan, index, shape[0] * shape[1], components)
    blocks, tables = read_scan_header(data, frame, scan)
    if len(starts) == 0 or len(blocks) == 0 or interval > shape[1]:
        return 0
    entries = len(starts) - 1
    bits = np.empty(len(data) - begin + MARGIN, np.uint8)
    before, dc, dc_after, state, zeros = _dc(), _dc(), _dc(), np.zeros(3, np.int64), np.zeros(1, np.int64)
    for row in range(rows[0], rows[1]):
        first, end = row * shape[1] + columns[0], row * shape[1] + columns[1]  # the numbers of MCUs in the scan
        entry, end_entry = first // interval, end // interval
        limit = starts[min(end_entry + 1, entries)]
        end_position, length = _unstuff_range(data, begin, starts[entry], starts[end_entry], limit, bits, zeros)
        if length < 0 or state[0] + max_written(length) > len(out):
            return 0
        _read_dc(data, index[0] + 2 + entry * entry_bytes(components), components, dc)
        skipped = first - entry * interval
        position = skip_mcus(bits, starts[entry] & 7, 8 * length, skipped, blocks, tables, dc)
        if position < 0:
            return 0
        if entry == end_entry:
            dc_after[:] = dc
            end_position, skipped = position, end - first
        elif end_entry < entries:
            _read_dc(data, index[0] + 2 + end_entry * entry_bytes(components), components, dc_after)
            skipped = end - end_entry * interval
        else:  # the run ends with the scan; no row follows that would need the DC values
            skipped = 0
        after = skip_mcus(bits, end_position, 8 * length, skipped, blocks, tables, dc_after)
        if after < position:
            return 0
        if write_mcus(bits, position, after, after, blocks, tables, dc, before, out, state) < 0:
            return 0
        before[:] = dc_after
    end_segment(_END, out, state)
    return state[0]


@compiled
def first_mcus(
    data: np.ndarray, frame: int, scan: int, index: tuple[int, int], mcus: int, count: int, out: np.ndarray
) -> int:
    """Copies the first MCU of each entry into the entropy-coded data of a new scan, to check the index.

    If these MCUs decode to the right pixels, all positions and DC values of the index are right.

    Args:
        data: A JPEG with an index, uint8 `[bytes]`.
        frame: Offset of the height in the frame header.
        scan: Offset of the length of the scan header.
        index: Offset of the index after its name, and the length in bytes from there on.
        mcus: Number of MCUs in the image.
        count: Number of MCUs to write, at least the number of entries; the first MCU of the last entry fills the rest.
        out: uint8; receives the data.

    Returns:
        The number of bytes written, including the final marker; 0 if the index does not fit the image, the last entry does not
        end with the scan, or `out` is too short.
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
        end, length = _unstuff_range(data, begin, starts[entry], starts[entry + 1], starts[entry + 1], bits, zeros)
        if length < 0 or state[0] + max_written(length) > len(out):
            return 0
        _read_dc(data, index[0] + 2 + entry * entry_bytes(components), components, dc)
        if write_mcus(bits, starts[entry] & 7, -1, 8 * length, blocks, tables, dc, before, out, state) < 0:
            return 0
        before[:] = dc
        if number == count - 1:
            remaining = mcus - entry * interval
            if skip_mcus(bits, starts[entry] & 7, 8 * length, remaining, blocks, tables, dc) != end:
                return 0
    end_segment(_END, out, state)
    return state[0]


@compiled
def max_written(length: int) -> int:
    """Returns an upper bound, in bytes, for writing MCUs of `length` unstuffed bytes as one run with a final marker."""
    # A byte may become 255 and take two bytes. DC differences that are recoded take up to 108 bits more.
    return 2 * (length + 16) + 8


@compiled
def _dc() -> np.ndarray:
    """Returns the DC values at the start of a scan, int64 `[MAX_COMPONENTS]`."""
    return np.zeros(MAX_COMPONENTS, np.int64)


@compiled
def _data_begin(data: np.ndarray, scan: int) -> int:
    """Returns the offset of a scan's entropy-coded data. The scan header begins with its length, at `scan`."""
    return scan + int(np.int64(data[scan]) << 8 | np.int64(data[scan + 1]))


@compiled
def _unstuff_range(
    data: np.ndarray, begin: int, first: int, middle: int, last: int, bits: np.ndarray, zeros: np.ndarray
) -> tuple[int, int]:
    """Unstuffs the bytes of a scan that hold the bits from `first` to `last`.

    Args:
        data: A JPEG, uint8 `[bytes]`.
        begin: Offset of the entropy-coded data.
        first: A position in the file's bits after `begin`, stuffed zeros included. The first copied byte holds it.
        middle: Such a position, at least `first`.
        last: Such a position, at least `middle`.
        bits: uint8; receives the bytes.
        zeros: See `bits.unstuff`.

    Returns:
        The position of `middle` in `bits`, and the number of bytes in `bits`, or -1 if there is a marker between them.
    """
    length = unstuff(data, begin + (first >> 3), begin + (middle >> 3), bits, 0, zeros)
    if length < 0:
        return 0, -1
    position = 8 * length + (middle & 7)
    length = unstuff(data, begin + (middle >> 3), begin + (last + 7 >> 3), bits, length, zeros)
    return position, length


@compiled
def _read_index(
    data: np.ndarray, scan: int, index: tuple[int, int], mcus: int, components: int
) -> tuple[int, int, np.ndarray]:
    """Reads an index, and checks that the scan ends where it says.

    Returns:
        The offset of the scan's entropy-coded data, the number of MCUs per entry, and the positions of the entries and of the
        end, int64 `[entries + 1]`, in bits from that offset with stuffed zeros. The positions are empty if the index does not
        fit the image.
    """
    begin, starts = _data_begin(data, scan), np.zeros(0, np.int64)
    place, size = index
    if size < 2 or place + size > len(data):
        return begin, 0, starts
    interval = int(np.int64(data[place]) << 8 | np.int64(data[place + 1]))
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
    """Reads the DC values of the entry at offset `place` into `dc`."""
    for component in range(components):
        first = place + 2 + 2 * component
        value = np.int64(data[first]) << 8 | np.int64(data[first + 1])
        dc[component] = value - (1 << 16) if value >> 15 else value  # two's complement
