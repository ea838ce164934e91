"""Loops over pixels that numba compiles, for what neither numpy nor OpenCV does fast and to the bit.

Owns the inner loops of `operations.py`, no rule of a policy. Arrays are contiguous uint8 unless a
loop says otherwise; float32 is computed in the order that is written here, without fused multiplications, so that every
machine gets the same bits. Each loop is compiled when it is first called; all together that takes six seconds, once on a
machine, because numba keeps the result beside this file or in the user's cache.
"""

import numpy as np

from pipeline.data.compiled_loops import compiled

_PLACES = 4  # histograms that are counted into in turns: neighbours are often equal, and would wait for each other


@compiled
def histograms(pixels: np.ndarray) -> np.ndarray:
    """Counts the grey levels of each channel of uint8 `[pixels, 3]`: uint32 `[3, 256]`."""
    counts = np.zeros((_PLACES, 3, 256), np.uint32)
    whole = len(pixels) // _PLACES * _PLACES
    for first in range(0, whole, _PLACES):
        for place in range(_PLACES):
            for channel in range(3):
                counts[place, channel, pixels[first + place, channel]] += 1
    for pixel in range(whole, len(pixels)):
        for channel in range(3):
            counts[0, channel, pixels[pixel, channel]] += 1
    return counts.sum(axis=0)


@compiled
def equalizing_tables(counts: np.ndarray) -> np.ndarray:
    """Returns uint8 `[channels, 256]` that equalise histograms, uint32 of that shape, in Pillow's integer arithmetic."""
    tables = np.empty(counts.shape, np.uint8)
    for channel in range(len(counts)):
        total, last = 0, 0
        for level in range(256):
            count = np.int64(counts[channel, level])
            total += count
            last = count if count else last
        step = (total - last) // 255
        before = step // 2
        for level in range(256):
            tables[channel, level] = min(before // step, 255) if step else level
            before += np.int64(counts[channel, level])
    return tables


@compiled
def extremes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lowest and the highest grey level of each column of uint8 `[rows, columns]`, uint8 `[columns]`."""
    lowest, highest = rows[0].copy(), rows[0].copy()
    for row in range(1, len(rows)):
        levels = rows[row]
        for column in range(len(levels)):
            lowest[column] = min(lowest[column], levels[column])
            highest[column] = max(highest[column], levels[column])
    return lowest, highest


@compiled
def look_up(pixels: np.ndarray, tables: np.ndarray, out: np.ndarray) -> None:
    """Writes to `out` the entry that each level of uint8 `[pixels, 3]` has in the row of its channel in uint8 `[3, 256]`."""
    for pixel in range(len(pixels)):
        for channel in range(3):
            out[pixel, channel] = tables[channel, pixels[pixel, channel]]


@compiled
def grey(red: np.ndarray, green: np.ndarray, blue: np.ndarray, out: np.ndarray) -> None:
    """Writes `tf.image.rgb_to_grayscale` of three planes to a fourth, all uint8 `[pixels]`."""
    for pixel in range(len(red)):
        out[pixel] = np.uint8(_grey_level(red[pixel], green[pixel], blue[pixel]))


@compiled
def blend_with_level(levels: np.ndarray, start: int, factor: float, out: np.ndarray) -> None:
    """Blends uint8 `[levels]` to `out`: from one grey level (factor 0) to themselves (1) and beyond."""
    for i in range(len(levels)):
        out[i] = _blend(np.float32(start), np.float32(levels[i]), factor)


@compiled
def blend_with_grey(red: np.ndarray, green: np.ndarray, blue: np.ndarray, factor: float) -> None:
    """Blends three planes, uint8 `[pixels]`, in place: from grey (factor 0) to themselves (1) and beyond."""
    for pixel in range(len(red)):
        level = np.float32(_grey_level(red[pixel], green[pixel], blue[pixel]))
        red[pixel] = _blend(level, np.float32(red[pixel]), factor)
        green[pixel] = _blend(level, np.float32(green[pixel]), factor)
        blue[pixel] = _blend(level, np.float32(blue[pixel]), factor)


@compiled
def blend_with_smooth(image: np.ndarray, factor: float, out: np.ndarray) -> None:
    """Blends from the image under the kernel ((1, 1, 1), (1, 5, 1), (1, 1, 1)) / 13 (factor 0) to the image (1) and beyond.

    Args:
        image: `[height, 3 * width]`, at least three pixels each way.
        factor: float32.
        out: As `image`; the outermost pixels are not written.
    """
    once, centre = np.float32(1) / np.float32(13), np.float32(5) / np.float32(13)
    size = image.shape[1] - 6
    for row in range(1, len(image) - 1):
        # Slices from 0 on, so that no index is computed that could count from the end: such loops do not become vector code.
        above, here, below = image[row - 1], image[row], image[row + 1]
        above_0, above_1, above_2 = above[:size], above[3 : 3 + size], above[6:]
        here_0, here_1, here_2 = here[:size], here[3 : 3 + size], here[6:]
        below_0, below_1, below_2 = below[:size], below[3 : 3 + size], below[6:]
        target = out[row, 3 : 3 + size]
        for i in range(size):
            total = np.float32(above_0[i]) * once + np.float32(above_1[i]) * once + np.float32(above_2[i]) * once
            total = total + np.float32(here_0[i]) * once + np.float32(here_1[i]) * centre + np.float32(here_2[i]) * once
            total = (
                total + np.float32(below_0[i]) * once + np.float32(below_1[i]) * once + np.float32(below_2[i]) * once
            )
            # The nine weights have the sum 1, so the total stays below 256.
            target[i] = _blend(np.float32(np.int32(total)), np.float32(here_1[i]), factor)


@compiled
def _grey_level(red: np.uint8, green: np.uint8, blue: np.uint8) -> np.int32:
    """The float32 roundings of `tf.image.rgb_to_grayscale` in its order: to 0..1, products, sums, back, truncated."""
    to_unit = np.float32(1 / 255)
    total = (np.float32(red) * to_unit) * np.float32(0.2989) + (np.float32(green) * to_unit) * np.float32(0.5870)
    total = total + (np.float32(blue) * to_unit) * np.float32(0.1140)
    return np.int32(total * np.float32(255.5))


@compiled
def _blend(start: np.float32, end: np.float32, factor: np.float32) -> np.uint8:
    """Returns `start + factor (end - start)`, clipped where it extrapolates, truncated."""
    blended = start + factor * (end - start)
    return np.uint8(np.int32(min(max(blended, np.float32(0)), np.float32(255))))
