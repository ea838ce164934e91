"""The inner loops of `operations.py`, compiled by numba, where NumPy and OpenCV are slow or not exact to the bit.

Arrays are contiguous uint8 unless a loop says otherwise. float32 is computed in the order written here, without fused
multiplications, so every machine gets the same bits. Compiling all loops takes six seconds, once on a machine.
"""

import numpy as np

from pipeline.data.compiled_loops import compiled

_PLACES = (
    4  # histograms used in turns: neighbouring pixels are often equal, and their increments would wait for each other
)


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
    """Returns lookup tables, uint8 `[channels, 256]`, that equalise uint32 histograms of that shape, in Pillow's integers."""
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
    """Looks up each level of uint8 `[pixels, 3]` in its channel's row of uint8 `[3, 256]` and writes it to `out`."""
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
    """Blends uint8 `[levels]` into `out`: grey at factor 0, unchanged at 1, extrapolated beyond."""
    for i in range(len(levels)):
        out[i] = _blend(np.float32(start), np.float32(levels[i]), factor)


@compiled
def blend_with_grey(red: np.ndarray, green: np.ndarray, blue: np.ndarray, factor: float) -> None:
    """Blends three planes, uint8 `[pixels]`, in place: grey at factor 0, unchanged at 1, extrapolated beyond."""
    for pixel in range(len(red)):
        level = np.float32(_grey_level(red[pixel], green[pixel], blue[pixel]))
        red[pixel] = _blend(level, np.float32(red[pixel]), factor)
        green[pixel] = _blend(level, np.float32(green[pixel]), factor)
        blue[pixel] = _blend(level, np.float32(blue[pixel]), factor)


@compiled
def blend_with_smooth(image: np.ndarray, factor: float, out: np.ndarray) -> None:
    """Blends with the image smoothed by ((1, 1, 1), (1, 5, 1), (1, 1, 1)) / 13: smoothed at factor 0, unchanged at 1.

    Args:
        image: uint8 `[height, 3 * width]`, at least three pixels in each direction.
        factor: float32; beyond 1 the blend extrapolates.
        out: Of the shape of `image`; the outermost pixels are not written.
    """
    once, centre = np.float32(1) / np.float32(13), np.float32(5) / np.float32(13)
    size = image.shape[1] - 6
    for row in range(1, len(image) - 1):
        # Slices start at 0, so no index can be negative. Loops with possibly negative indices are not vectorised.
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
            # The nine weights sum to 1, so the total stays below 256.
            target[i] = _blend(np.float32(np.int32(total)), np.float32(here_1[i]), factor)


@compiled
def _grey_level(red: np.uint8, green: np.uint8, blue: np.uint8) -> np.int32:
    """Rounds as `tf.image.rgb_to_grayscale` does in float32: scaled to 0..1, products, sums, scaled back, truncated."""
    to_unit = np.float32(1 / 255)
    total = (np.float32(red) * to_unit) * np.float32(0.2989) + (np.float32(green) * to_unit) * np.float32(0.5870)
    total = total + (np.float32(blue) * to_unit) * np.float32(0.1140)
    return np.int32(total * np.float32(255.5))


@compiled
def _blend(start: np.float32, end: np.float32, factor: np.float32) -> np.uint8:
    """Returns `start + factor * (end - start)`, clipped if it extrapolates, truncated."""
    blended = start + factor * (end - start)
    return np.uint8(np.int32(min(max(blended, np.float32(0)), np.float32(255))))
