"""Reads the entries of an MCU index; `mcu_index.py` says what they hold.

The data may be damaged or hostile: no loop reads outside its arrays, and an index that does not fit its image has no entries.
"""

import numpy as np

from pipeline.data.compiled_loops import compiled

END = 0xD9  # the second byte of the marker EOI [ITU-T T.81, table B.1]


@compiled
def entry_bytes(components: int) -> int:
    """Returns the size of an entry in bytes, for an image with that many components."""
    return 2 + 2 * components


@compiled
def data_begin(data: np.ndarray, scan: int) -> int:
    """Returns the offset of a scan's entropy-coded data. The scan header begins with its length, at `scan`."""
    return scan + (np.int64(data[scan]) << 8 | np.int64(data[scan + 1]))


@compiled
def read_index(
    data: np.ndarray, scan: int, index: tuple[int, int], mcus: int, components: int
) -> tuple[int, int, np.ndarray]:
    """Reads an index, and checks that the scan ends where it says.

    Returns:
        The offset of the scan's entropy-coded data, the number of MCUs per entry, and the positions of the entries and of the
        end, int64 `[entries + 1]`, in bits from that offset with stuffed zeros. The positions are empty if the index does not
        fit the image.
    """
    begin, starts = data_begin(data, scan), np.zeros(0, np.int64)
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
    if end + 2 > len(data) or data[end] != 255 or data[end + 1] != END:
        return begin, 0, starts
    return begin, interval, found


@compiled
def read_dc(data: np.ndarray, place: int, components: int, dc: np.ndarray) -> None:
    """Reads the DC values of the entry at offset `place` into `dc`."""
    for component in range(components):
        first = place + 2 + 2 * component
        value = np.int64(data[first]) << 8 | np.int64(data[first + 1])
        dc[component] = value - (1 << 16) if value >> 15 else value  # two's complement
