"""Loops over the entropy-coded data of a JPEG: they find where MCUs begin, and copy ranges of MCUs bit by bit.

Huffman decoding [ITU-T T.81, annexes C and F.2.2] goes only as far as the end of an MCU and its DC values require; no AC
value is computed. Only the first DC difference of each component depends on what came before a range of MCUs. The copy
rewrites that difference with the file's own Huffman tables, so a range can begin anywhere in a new scan. The data may be
damaged or hostile: no loop reads or writes outside its arrays, and each ends after the bits it was given.

Positions are in bits and count from the first bit of a byte. "Plain" bytes are those without the zero that a JPEG inserts after
each byte of 255.
"""

import numpy as np

from pipeline.data.compiled_loops import compiled

MOST_COMPONENTS = 4
MOST_BLOCKS = 10  # in an MCU [T.81, B.2.3]
# Bytes after the plain ones. A block takes at most 27 + 63 * 31 bits, and one more word is read, so a block that begins in the
# plain bytes ends in these. Their content does not matter, because an MCU that reaches into them is refused.
MARGIN = 288
_PEEK = 10  # bits that are looked up together; longer codes are rare
_END_OF_BLOCK = 80  # more than any run past the last coefficient
_NO_CODE = -1
_LARGEST_DC = 11  # bits of a DC difference of 8-bit samples [T.81, table F.1]


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
    blocks = np.zeros((MOST_BLOCKS, 3), np.int64)
    nothing = blocks[:0]
    if len(data) < scan + 12:
        return nothing, tables
    components = np.int64(data[frame + 4])
    end = scan + 6 + 2 * components
    if not 1 <= components <= MOST_COMPONENTS or data[scan + 2] != components:
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
        if count + size > MOST_BLOCKS or chosen >> 4 > 3 or chosen & 15 > 3:
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


# Columns of a table: an entry for each value of the next `_PEEK` bits; the largest code of each length, and the offset from a
# code to its place among the values; the values; code and length of each value; whether the table exists.
_LARGEST = 1 << _PEEK
_OFFSET = _LARGEST + 17
_VALUES = _OFFSET + 17
_CODES = _VALUES + 256
_LENGTHS = _CODES + 256
_DEFINED = _LENGTHS + 256
_COLUMNS = _DEFINED + 1


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
        behind = position + 2 + (np.int64(data[position + 2]) << 8 | np.int64(data[position + 3]))
        position += 4
        if behind > end or behind < position:
            return False
        while marker == 0xC4 and position < behind:
            if behind - position < 17:
                return False
            name, values = np.int64(data[position]), 0
            for length in range(1, 17):
                values += np.int64(data[position + length])
            if name >> 4 > 1 or name & 15 > 3 or values > 256 or position + 17 + values > behind:
                return False
            if not _add_table(
                data[position + 1 : position + 17 + values], name >> 4, tables[4 * (name >> 4) + (name & 15)]
            ):
                return False
            position += 17 + values
        position = behind
    return True


@compiled
def _add_table(definition: np.ndarray, is_ac: int, table: np.ndarray) -> bool:
    """Writes a Huffman table [T.81, C.2 and F.2.2.3] from the number of codes of each length and their values.

    An entry describes the next code together with the bits that belong to it: 256 times their number of bits, plus a small
    number. For a DC table that is the number of bits of the difference. For an AC table it is the distance to the next
    coefficient, or `_END_OF_BLOCK`. The higher bits of an AC entry hold the same two numbers for this code and the next one
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
            table[_CODES + value], table[_LENGTHS + value] = code, length
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
        return (length + value) << 8 | value if value <= _LARGEST_DC else 0
    run, bits = value >> 4, value & 15
    if bits or run == 15:
        return (length + bits) << 8 | (run + 1)
    return length << 8 | _END_OF_BLOCK if run == 0 else 0


@compiled
def _add_pairs(table: np.ndarray) -> None:
    """Adds the numbers for two codes to the entries of an AC table; see `_add_table`."""
    for peeked in range(1 << _PEEK):
        one = table[peeked] & 0xFFFF
        if table[peeked] <= 0:
            continue
        bits, further = one >> 8, one & 255
        if bits < _PEEK and further < _END_OF_BLOCK:
            next_one = table[peeked << bits & (1 << _PEEK) - 1]
            if next_one > 0 and bits + (next_one >> 8 & 255) <= _PEEK:
                bits, further = bits + (next_one >> 8 & 255), further + (next_one & 255)
        table[peeked] = bits << 24 | further << 16 | one


@compiled
def _look_up(word: np.uint64, tables: np.ndarray, table: int) -> int:
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
def _word(bits: np.ndarray, position: int) -> np.uint64:
    """Returns at least 57 bits from `position` on, at the top of 64."""
    byte = np.uint64(position >> 3)
    word = np.uint64(0)
    for place in range(8):
        word = word << np.uint64(8) | np.uint64(bits[byte + np.uint64(place)])
    return word << np.uint64(position & 7)


@compiled
def _dc_difference(word: np.uint64, entry: int) -> int:
    """Returns the DC difference [T.81, F.2.2.1] at the top of 64 bits."""
    size, total = entry & 255, entry >> 8 & 255
    if size == 0:
        return 0
    bits = np.int64((word >> np.uint64(64 - total)) & np.uint64((1 << size) - 1))
    return bits if bits >> (size - 1) else bits - (1 << size) + 1


@compiled
def _behind_ac(bits: np.ndarray, position: int, tables: np.ndarray, table: int) -> int:
    """Returns the position after the AC coefficients of a block; -1 if they do not match the table."""
    coefficient = 1
    while coefficient < 64:
        word, left = _word(bits, position), 57
        while left >= 16:  # the longest code
            entry = _look_up(word, tables, table)
            if entry <= 0:
                return -1
            if coefficient + (entry & 255) >= 64:
                position += entry >> 8 & 255
                coefficient += entry & 255
                break
            taken = entry >> 24
            word <<= np.uint64(taken)
            position += taken
            left -= taken
            coefficient += entry >> 16 & 255
            if coefficient >= 64:
                break
    return -1 if 64 < coefficient < _END_OF_BLOCK else position


@compiled
def skip_mcus(
    bits: np.ndarray, position: int, end: int, count: int, blocks: np.ndarray, tables: np.ndarray, dc: np.ndarray
) -> int:
    """Skips MCUs.

    Args:
        bits: Plain bytes, uint8 `[bytes + MARGIN]`.
        position: Position of the first MCU.
        end: No MCU may begin or end after this position.
        count: Number of MCUs.
        blocks: See `read_scan_header`.
        tables: See `read_scan_header`.
        dc: The DC values before the MCUs, int64 `[MOST_COMPONENTS]`; updated to those after them.

    Returns:
        The position after the last MCU; -1 if that is after `end` or the bits do not match the tables.
    """
    for _ in range(count):
        for block in range(len(blocks)):
            word = _word(bits, position)
            entry = _look_up(word, tables, blocks[block, 1])
            if entry <= 0:
                return -1
            dc[blocks[block, 0]] += _dc_difference(word, entry)
            position = _behind_ac(bits, position + (entry >> 8 & 255), tables, blocks[block, 2])
            if not 0 <= position <= end:
                return -1
    return position


@compiled
def find_marker(data: np.ndarray, begin: int) -> int:
    """Returns the offset of the first marker from `begin` on; the length of `data` if there is none."""
    for position in range(begin, len(data) - 1):
        if data[position] == 255 and data[position + 1]:
            return position
    return len(data)


@compiled
def take_plain(data: np.ndarray, begin: int, end: int, out: np.ndarray, written: int, zeros: np.ndarray) -> int:
    """Appends the bytes from `begin` to `end` to `out` without the zeros after each 255.

    Args:
        data: uint8 `[bytes]`.
        begin: An offset inside `data`.
        end: An offset, at most the length of `data`.
        out: uint8, long enough for all of them.
        written: Number of bytes in `out`.
        zeros: int64. The first element counts the zeros that were left out. Further elements, if there are any, take the number
            of bytes in `out` at each of them.

    Returns:
        The new number of bytes in `out`; -1 at a marker.
    """
    position, count = begin, zeros[0]
    while position < end:
        if position + 8 <= end:
            eight = _word(data, 8 * position)
            if not _has_255(eight):
                _store(eight, out, written)
                position += 8
                written += 8
                continue
        for _ in range(min(8, end - position)):
            level = data[position]
            out[written] = level
            written += 1
            position += 1
            if level == 255:
                if position >= len(data) or data[position]:
                    return -1
                position += 1
                count += 1
                if count < len(zeros):
                    zeros[count] = written
            if position >= end:
                break
    zeros[0] = count
    return written


@compiled
def _has_255(word: np.uint64) -> bool:
    """Returns whether one of eight bytes is 255."""
    return (~word - np.uint64(0x0101010101010101)) & word & np.uint64(0x8080808080808080) != 0


@compiled
def _store(word: np.uint64, out: np.ndarray, begin: int) -> None:
    """Writes eight bytes, the highest first."""
    first = np.uint64(begin)
    for place in range(8):
        out[first + np.uint64(place)] = np.uint8(word >> np.uint64(56 - 8 * place) & np.uint64(255))


@compiled
def _put(value: np.uint64, count: int, out: np.ndarray, state: np.ndarray) -> None:
    """Appends the lowest `count` bits of a value, at most 32.

    Args:
        value: The bits; all higher ones must be 0.
        count: 0 to 32.
        out: uint8; a 0 is inserted after each byte of 255.
        state: int64: the number of bytes in `out`, the number of pending bits, and the pending bits.
    """
    waiting = np.uint64(state[2]) << np.uint64(count) | value
    left = state[1] + count
    written = state[0]
    while left >= 8:
        left -= 8
        level = np.uint8(waiting >> np.uint64(left) & np.uint64(255))
        out[written] = level
        written += 1
        if level == 255:
            out[written] = 0
            written += 1
    state[0], state[1] = written, left
    state[2] = np.int64(waiting & np.uint64((1 << left) - 1))


@compiled
def _copy(bits: np.ndarray, begin: int, end: int, out: np.ndarray, state: np.ndarray) -> None:
    """Appends plain bits from `begin` to `end`."""
    position, written = begin, state[0]
    left, waiting = np.uint64(state[1]), np.uint64(state[2])
    while position + 48 <= end:
        waiting = waiting << np.uint64(48) | _word(bits, position) >> np.uint64(16)
        position += 48
        six = waiting >> left << np.uint64(16)
        if _has_255(six):
            for place in range(6):
                level = np.uint8(six >> np.uint64(56 - 8 * place) & np.uint64(255))
                out[written] = level
                written += 1
                if level == 255:
                    out[written] = 0
                    written += 1
        else:
            _store(six, out, written)
            written += 6
        waiting &= (np.uint64(1) << left) - np.uint64(1)
    state[0], state[2] = written, np.int64(waiting)
    while position < end:
        count = min(32, end - position)
        _put(_word(bits, position) >> np.uint64(64 - count), count, out, state)
        position += count


@compiled
def write_mcus(
    bits: np.ndarray,
    begin: int,
    end: int,
    limit: int,
    blocks: np.ndarray,
    tables: np.ndarray,
    dc: np.ndarray,
    dc_before: np.ndarray,
    out: np.ndarray,
    state: np.ndarray,
) -> int:
    """Appends MCUs to a scan.

    Args:
        bits: Plain bytes, uint8 `[bytes + MARGIN]`.
        begin: Position of the first MCU.
        end: Position after the last MCU; -1: there is only one MCU.
        limit: No MCU may end after this position.
        blocks: See `read_scan_header`.
        tables: See `read_scan_header`.
        dc: The DC values before the first MCU in `bits`, int64 `[MOST_COMPONENTS]`. Without an `end` they are updated to those
            after it.
        dc_before: The DC values before the first MCU in `out`.
        out: uint8; one and a half times as long as `bits`, because each 255 takes two bytes.
        state: See `_put`.

    Returns:
        The position after the last MCU; -1 if the bits do not match the tables or a DC difference has no code.
    """
    position = copied = begin
    last, components = -1, blocks[-1, 0] + 1
    for block in range(len(blocks)):
        component, table = blocks[block, 0], blocks[block, 1]
        word = _word(bits, position)
        entry = _look_up(word, tables, table)
        if entry <= 0:
            return -1
        behind_dc = position + (entry >> 8 & 255)
        dc[component] += _dc_difference(word, entry)
        if component != last:
            last = component
            difference = dc[component] - dc_before[component]
            size = 0
            while abs(difference) >> size:
                size += 1
            if size > _LARGEST_DC or not tables[table, _LENGTHS + size] or behind_dc > limit:
                return -1
            _copy(bits, copied, position, out, state)
            _put(np.uint64(tables[table, _CODES + size]), tables[table, _LENGTHS + size], out, state)
            _put(np.uint64(difference if difference >= 0 else difference + (1 << size) - 1), size, out, state)
            copied = behind_dc
            if last == components - 1 and end >= 0:  # the rest is copied unchanged
                break
        position = _behind_ac(bits, behind_dc, tables, blocks[block, 2])
        if not 0 <= position <= limit:
            return -1
    end = position if end < 0 else end
    _copy(bits, copied, end, out, state)
    return end


@compiled
def end_segment(marker: int, out: np.ndarray, state: np.ndarray) -> None:
    """Pads the last byte with ones, as T.81 requires, and appends a marker."""
    if state[1]:
        missing = 8 - state[1]
        _put(np.uint64((1 << missing) - 1), missing, out, state)
    out[state[0]], out[state[0] + 1] = 0xFF, marker
    state[0] += 2
