"""Reads and writes the bits of entropy-coded JPEG data.

A JPEG stuffs a zero after each byte of 255 [T.81, B.1.1.5]. Unstuffed bytes are those without these zeros. Positions are in
bits and count from the first bit of an array. No loop reads or writes outside its arrays if the caller keeps to the lengths in
the docstrings.
"""

import numpy as np

from pipeline.data.compiled_loops import compiled

# Bytes after the unstuffed ones. A block takes at most 27 + 63 * 31 bits, and one more word is read, so a block that begins in
# the unstuffed bytes ends in these. Their content does not matter, because an MCU that reaches into them is refused.
MARGIN = 288


@compiled
def word_at(bits: np.ndarray, position: int) -> np.uint64:
    """Returns at least 57 bits from `position` on, at the top of 64."""
    byte = np.uint64(position >> 3)
    word = np.uint64(0)
    for place in range(8):
        word = word << np.uint64(8) | np.uint64(bits[byte + np.uint64(place)])
    return word << np.uint64(position & 7)


@compiled
def find_marker(data: np.ndarray, begin: int) -> int:
    """Returns the offset of the first marker from `begin` on; the length of `data` if there is none."""
    for position in range(begin, len(data) - 1):
        if data[position] == 255 and data[position + 1]:
            return position
    return len(data)


@compiled
def unstuff(data: np.ndarray, begin: int, end: int, out: np.ndarray, written: int, zeros: np.ndarray) -> int:
    """Appends the bytes from `begin` to `end` to `out` without the zeros that are stuffed after each 255.

    Args:
        data: uint8 `[bytes]`.
        begin: An offset inside `data`.
        end: An offset, at most the length of `data`.
        out: uint8, long enough for all of them.
        written: Number of bytes in `out`.
        zeros: int64. The first element counts the zeros that were left out. Element k, if there is one, receives the number of
            bytes that `out` had at the k-th of them.

    Returns:
        The new number of bytes in `out`; -1 at a marker.
    """
    position, count = begin, zeros[0]
    while position < end:
        if position + 8 <= end:
            eight = word_at(data, 8 * position)
            if not has_255(eight):
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
def put(value: np.uint64, count: int, out: np.ndarray, state: np.ndarray) -> None:
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
def copy(bits: np.ndarray, begin: int, end: int, out: np.ndarray, state: np.ndarray) -> None:
    """Appends unstuffed bits from `begin` to `end`."""
    position, written = begin, state[0]
    left, waiting = np.uint64(state[1]), np.uint64(state[2])
    while position + 48 <= end:
        waiting = waiting << np.uint64(48) | word_at(bits, position) >> np.uint64(16)
        position += 48
        six = waiting >> left << np.uint64(16)
        if has_255(six):
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
        put(word_at(bits, position) >> np.uint64(64 - count), count, out, state)
        position += count


@compiled
def end_segment(marker: int, out: np.ndarray, state: np.ndarray) -> None:
    """Pads the last byte with ones, as T.81 requires, and appends a marker."""
    if state[1]:
        missing = 8 - state[1]
        put(np.uint64((1 << missing) - 1), missing, out, state)
    out[state[0]], out[state[0] + 1] = 0xFF, marker
    state[0] += 2


@compiled
def has_255(word: np.uint64) -> bool:
    """Returns whether one of eight bytes is 255."""
    return (~word - np.uint64(0x0101010101010101)) & word & np.uint64(0x8080808080808080) != 0


@compiled
def _store(word: np.uint64, out: np.ndarray, begin: int) -> None:
    """Writes eight bytes, the highest first."""
    first = np.uint64(begin)
    for place in range(8):
        out[first + np.uint64(place)] = np.uint8(word >> np.uint64(56 - 8 * place) & np.uint64(255))
