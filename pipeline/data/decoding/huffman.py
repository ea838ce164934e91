"""The Huffman tables of a sequential JPEG, and what a code means [ITU-T T.81, annexes C and F.2.2].

The tables are made for skipping: an entry says how many bits a code and its value take and how far the next coefficient is; no
AC value is computed. The data may be damaged or hostile: a scan that is not of the kind described has no blocks.
"""

import numpy as np

from pipeline.data.compiled_loops import compiled

MAX_COMPONENTS = 4
MAX_BLOCKS = 10  # in an MCU [T.81, B.2.3]
END_OF_BLOCK = 80  # more than any run past the last coefficient
LARGEST_DC = 11  # bits of a DC difference of 8-bit samples [T.81, table F.1]
_PEEK = 10  # bits that are looked up together; longer codes are rare
_NO_CODE = -1

# Columns of a table: an entry for each value of the next `_PEEK` bits; the largest code of each length, and the offset from a
# code to its place among the values; the values; code and length of each value; whether the table exists.
_LARGEST = 1 << _PEEK
_OFFSET = _LARGEST + 17
_VALUES = _OFFSET + 17
CODES = _VALUES + 256
LENGTHS = CODES + 256
_DEFINED = LENGTHS + 256
_COLUMNS = _DEFINED + 1


@compiled
def read_scan_header(data: np.ndarray, frame: int, scan: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads the blocks of an MCU and the Huffman tables of a sequential scan with all components.

    Args:
        data: A JPEG, uint8 `[bytes]`.
        frame: Offset of the height in the frame header.
        scan: Offset of the length of the scan header.

    Returns:
        blocks: int64 `[blocks, 3]`: component, DC table and AC table of each block of an MCU; AC tables count from 4. Empty if
            the scan is not of this kind.
        tables: int32 `[8, columns]`; see `_add_table`. DC tables come first.
    """
    tables = np.zeros((8, _COLUMNS), np.int32)
    blocks = np.zeros((MAX_BLOCKS, 3), np.int64)
    nothing = blocks[:0]
    if len(data) < scan + 12:
        return nothing, tables
    components = np.int64(data[frame + 4])
    end = scan + 6 + 2 * components
    if not 1 <= components <= MAX_COMPONENTS or data[scan + 2] != components:
        return nothing, tables
    if len(data) < end or len(data) < frame + 5 + 3 * components:
        return nothing, tables
    if data[scan + 1] != 6 + 2 * components or data[scan] or data[end - 3] or data[end - 2] != 63 or data[end - 1]:
        return nothing, tables
    count = 0
    for component in range(components):
        described, selected = frame + 5 + 3 * component, scan + 3 + 2 * component
        if data[described] != data[selected]:
            return nothing, tables
        sampling, chosen = np.int64(data[described + 1]), np.int64(data[selected + 1])
        size = (sampling >> 4) * (sampling & 15) if components > 1 else 1  # a single component has MCUs of one block
        if count + size > MAX_BLOCKS or chosen >> 4 > 3 or chosen & 15 > 3:
            return nothing, tables
        for block in range(count, count + size):
            blocks[block, 0], blocks[block, 1], blocks[block, 2] = component, chosen >> 4, 4 + (chosen & 15)
        count += size
    if not _read_tables(data, scan - 1, tables):
        return nothing, tables
    for block in range(count):
        if not tables[blocks[block, 1], _DEFINED] or not tables[blocks[block, 2], _DEFINED]:
            return nothing, tables
    return blocks[:count], tables


@compiled
def _read_tables(data: np.ndarray, end: int, tables: np.ndarray) -> bool:
    """Reads all Huffman tables between the first marker and the one at `end`; returns whether they are valid."""
    position = 2
    while position + 4 <= end:
        if data[position] != 0xFF:
            return False
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        segment_end = position + 2 + (np.int64(data[position + 2]) << 8 | np.int64(data[position + 3]))
        position += 4
        if segment_end > end or segment_end < position:
            return False
        while marker == 0xC4 and position < segment_end:
            if segment_end - position < 17:
                return False
            name, values = np.int64(data[position]), 0
            for length in range(1, 17):
                values += np.int64(data[position + length])
            if name >> 4 > 1 or name & 15 > 3 or values > 256 or position + 17 + values > segment_end:
                return False
            if not _add_table(
                data[position + 1 : position + 17 + values], name >> 4, tables[4 * (name >> 4) + (name & 15)]
            ):
                return False
            position += 17 + values
        position = segment_end
    return True


@compiled
def _add_table(definition: np.ndarray, is_ac: int, table: np.ndarray) -> bool:
    """Writes a Huffman table [T.81, C.2 and F.2.2.3] from the number of codes of each length and their values.

    An entry describes the next code together with the bits that belong to it: 256 times their number of bits, plus a small
    number. For a DC table that is the number of bits of the difference. For an AC table it is the distance to the next
    coefficient, or `END_OF_BLOCK`. The higher bits of an AC entry hold the same two numbers for this code and the next one
    together, if all their bits are known. An entry is 0 if the bits begin with no short code, and `_NO_CODE` for a code that no
    baseline JPEG has.
    """
    table[:] = 0
    code = place = 0
    for length in range(1, 17):
        table[_LARGEST + length] = -1
        table[_OFFSET + length] = place - code
        for _ in range(np.int64(definition[length - 1])):
            if code >= 1 << length:
                return False
            value = np.int64(definition[16 + place])
            table[_VALUES + place] = value
            table[CODES + value], table[LENGTHS + value] = code, length
            if length <= _PEEK:
                first = code << (_PEEK - length)
                for peeked in range(first, first + (1 << (_PEEK - length))):
                    table[peeked] = _entry(length, value, is_ac) or _NO_CODE
            table[_LARGEST + length] = code
            code += 1
            place += 1
        code <<= 1
    table[_DEFINED] = (1 + is_ac) if place else 0
    if is_ac:
        _add_pairs(table)
    return True


@compiled
def _entry(length: int, value: int, is_ac: int) -> int:
    """Returns the entry of a value; see `_add_table`."""
    if not is_ac:
        return (length + value) << 8 | value if value <= LARGEST_DC else 0
    run, bits = value >> 4, value & 15
    if bits or run == 15:
        return (length + bits) << 8 | (run + 1)
    return length << 8 | END_OF_BLOCK if run == 0 else 0


@compiled
def _add_pairs(table: np.ndarray) -> None:
    """Adds the numbers for two codes to the entries of an AC table; see `_add_table`."""
    for peeked in range(1 << _PEEK):
        one = table[peeked] & 0xFFFF
        if table[peeked] <= 0:
            continue
        bits, further = one >> 8, one & 255
        if bits < _PEEK and further < END_OF_BLOCK:
            next_one = table[peeked << bits & (1 << _PEEK) - 1]
            if next_one > 0 and bits + (next_one >> 8 & 255) <= _PEEK:
                bits, further = bits + (next_one >> 8 & 255), further + (next_one & 255)
        table[peeked] = bits << 24 | further << 16 | one


@compiled
def look_up(word: np.uint64, tables: np.ndarray, table: int) -> int:
    """Returns the entry of the code at the top of 64 bits; 0 or less if there is none."""
    entry = tables[table, np.int64(word >> np.uint64(64 - _PEEK))]
    if entry:
        return entry
    bits = np.int64(word >> np.uint64(48))
    for length in range(_PEEK + 1, 17):
        code = bits >> (16 - length)
        if code <= tables[table, _LARGEST + length]:
            place = tables[table, _OFFSET + length] + code
            if 0 <= place < 256:
                entry = _entry(length, tables[table, _VALUES + place], tables[table, _DEFINED] - 1)
                return entry << 16 | entry
    return 0


@compiled
def dc_difference(word: np.uint64, entry: int) -> int:
    """Returns the DC difference [T.81, F.2.2.1] at the top of 64 bits."""
    size, total = entry & 255, entry >> 8 & 255
    if size == 0:
        return 0
    bits = np.int64((word >> np.uint64(64 - total)) & np.uint64((1 << size) - 1))
    return int(bits if bits >> (size - 1) else bits - (1 << size) + 1)
