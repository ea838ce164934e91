"""Loops over the MCUs of a JPEG's scan: they find where MCUs begin, and copy ranges of MCUs bit by bit.

Decoding goes only as far as the end of an MCU and its DC values require. Only the first DC difference of each component depends
on what came before a range of MCUs. The copy rewrites that difference with the file's own Huffman tables, so a range can begin
anywhere in a new scan. The data may be damaged or hostile: no loop reads or writes outside its arrays, and each ends after the
bits it was given. For positions and unstuffed bytes see `bits.py`.
"""

import numpy as np

from pipeline.data.compiled_loops import compiled
from pipeline.data.decoding.bits import copy, put, word_at
from pipeline.data.decoding.huffman import CODES, END_OF_BLOCK, LARGEST_DC, LENGTHS, dc_difference, look_up


@compiled
def skip_mcus(
    bits: np.ndarray, position: int, end: int, count: int, blocks: np.ndarray, tables: np.ndarray, dc: np.ndarray
) -> int:
    """Skips MCUs.

    Args:
        bits: Unstuffed bytes, uint8 `[bytes + MARGIN]`.
        position: Position of the first MCU.
        end: No MCU may begin or end after this position.
        count: Number of MCUs.
        blocks: See `huffman.read_scan_header`.
        tables: See `huffman.read_scan_header`.
        dc: The DC values before the MCUs, int64 `[MAX_COMPONENTS]`; updated to those after them.

    Returns:
        The position after the last MCU; -1 if that is after `end` or the bits do not match the tables.
    """
    for _ in range(count):
        for block in range(len(blocks)):
            word = word_at(bits, position)
            entry = look_up(word, tables, blocks[block, 1])
            if entry <= 0:
                return -1
            dc[blocks[block, 0]] += dc_difference(word, entry)
            position = _after_ac(bits, position + (entry >> 8 & 255), tables, blocks[block, 2])
            if not 0 <= position <= end:
                return -1
    return position


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
        bits: Unstuffed bytes, uint8 `[bytes + MARGIN]`.
        begin: Position of the first MCU.
        end: Position after the last MCU; -1: there is only one MCU.
        limit: No MCU may end after this position.
        blocks: See `huffman.read_scan_header`.
        tables: See `huffman.read_scan_header`.
        dc: The DC values before the first MCU in `bits`, int64 `[MAX_COMPONENTS]`. Without an `end` they are updated to those
            after it.
        dc_before: The DC values before the first MCU in `out`.
        out: uint8; one and a half times as long as `bits`, because each 255 takes two bytes.
        state: See `bits.put`.

    Returns:
        The position after the last MCU; -1 if the bits do not match the tables or a DC difference has no code.
    """
    position = copied = begin
    last, components = -1, blocks[-1, 0] + 1
    for block in range(len(blocks)):
        component, table = blocks[block, 0], blocks[block, 1]
        word = word_at(bits, position)
        entry = look_up(word, tables, table)
        if entry <= 0:
            return -1
        after_dc = position + (entry >> 8 & 255)
        dc[component] += dc_difference(word, entry)
        if component != last:
            last = component
            difference = dc[component] - dc_before[component]
            size = 0
            while abs(difference) >> size:
                size += 1
            if size > LARGEST_DC or not tables[table, LENGTHS + size] or after_dc > limit:
                return -1
            copy(bits, copied, position, out, state)
            put(np.uint64(tables[table, CODES + size]), tables[table, LENGTHS + size], out, state)
            put(np.uint64(difference if difference >= 0 else difference + (1 << size) - 1), size, out, state)
            copied = after_dc
            if last == components - 1 and end >= 0:  # the rest is copied unchanged
                break
        position = _after_ac(bits, after_dc, tables, blocks[block, 2])
        if not 0 <= position <= limit:
            return -1
    end = position if end < 0 else end
    copy(bits, copied, end, out, state)
    return end


@compiled
def _after_ac(bits: np.ndarray, position: int, tables: np.ndarray, table: int) -> int:
    """Returns the position after the AC coefficients of a block; -1 if they do not match the table."""
    coefficient = 1
    while coefficient < 64:
        word, left = word_at(bits, position), 57
        while left >= 16:  # the longest code
            entry = look_up(word, tables, table)
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
    return -1 if 64 < coefficient < END_OF_BLOCK else position
