"""The picture operations of AutoAugment and RandAugment, as the published TensorFlow code computes them.

Each function takes and returns uint8 RGB of shape `[height, width, 3]` and never writes into its argument. Results
are equal to the TensorFlow ops to the bit, including float32 rounding and truncation where those decide the grey
level; what a level of a policy means as an argument is `levels.py`'s business. Source of every rule: autoaugment.py
of the published code. Where OpenCV's vector instructions round otherwise, they are used only after they have given the
right result for every possible input. At 600 pixels memory costs as much as arithmetic: hence the buffers.
"""

import functools
import itertools
import math
from collections.abc import Iterator

import cv2
import numpy as np

GREY = 128  # what moves into the picture in geometric operations

_STRIP_BYTES = 1 << 17  # of a picture; the float32 temporaries of a strip fit in a second-level cache
_BLEND_MARGINS = (0.5e-3, 2e-3)  # of a grey level: far above float32's error, far below the 0.01 of published factors
_BLEND_MARGIN = 1e-3  # between the two
_PAIRS_FROM_BYTES = 1 << 19  # of a picture; tables of pairs cost less than they save
_SUM = np.ones((1, 3), np.float32)
_GREY_WEIGHTS = np.diag(np.float32([0.2989, 0.5870, 0.1140]))  # tf.image.rgb_to_grayscale


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Stretches each channel to 0..255; a channel of one grey level stays."""
    return _look_up(image, np.stack([_stretching_table(channel) for channel in _channels(image)]))


def equalize(image: np.ndarray) -> np.ndarray:
    """Equalises the histogram of each channel with Pillow's integer arithmetic."""
    histograms = [cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel() for channel in range(3)]
    return _look_up(image, _equalizing_tables(np.stack(histograms).astype(np.int64)))


def invert(image: np.ndarray) -> np.ndarray:
    """Subtracts each grey level from 255."""
    return cv2.bitwise_not(image)


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts the grey levels from a threshold (0 to 256) on."""
    inverted = _where(image, cv2.THRESH_BINARY, threshold - 1, 255)
    return cv2.bitwise_xor(image, inverted, inverted)  # 255 - level is level with every bit changed


def solarize_add(image: np.ndarray, addition: int) -> np.ndarray:
    """Adds to the grey levels below 128, up to 255."""
    added = _where(image, cv2.THRESH_BINARY_INV, 127, min(addition, 255))
    return cv2.add(image, added, added)


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keeps the highest bits (1 to 8) of each grey level."""
    return np.bitwise_and(image, np.uint8(256 - (1 << (8 - bits))))


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from the grey picture (factor 0) to the picture (1) and beyond."""
    return _blend(cv2.cvtColor(to_grey(image), cv2.COLOR_GRAY2RGB), image, factor)


def contrast(image: np.ndarray, factor: float, mean: int) -> np.ndarray:
    """Blends from a uniform grey of level `mean` (factor 0) to the picture (1) and beyond."""
    return _blend(np.full_like(image, mean), image, factor)


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from black (factor 0) to the picture (1) and beyond."""
    return _blend(np.zeros_like(image), image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from the smoothed picture (factor 0) to the picture (1) and beyond; the outermost pixels stay."""
    return _blend(_smooth(image), image, factor)


def cutout(image: np.ndarray, reach: int, rng: np.random.Generator) -> np.ndarray:
    """Covers a square of side `2 * reach` around a random pixel, cut at the borders, with grey."""
    row, column = rng.integers(image.shape[0]), rng.integers(image.shape[1])
    covered = image.copy()
    covered[max(0, row - reach) : row + reach, max(0, column - reach) : column + reach] = GREY
    return covered


def translate(image: np.ndarray, right: float, down: float) -> np.ndarray:
    """Moves the picture by pixels, rounded."""
    if right == down == 0:
        return image
    height, width, _ = image.shape
    right, down = round(right), round(down)
    moved = np.full_like(image, GREY)
    source = image[max(0, -down) : max(0, height - down), max(0, -right) : max(0, width - right)]
    moved[max(0, down) :, max(0, right) :][: source.shape[0], : source.shape[1]] = source
    return moved


def shear(image: np.ndarray, horizontal: float, vertical: float) -> np.ndarray:
    """Shears about the top left corner: `(x, y)` takes the pixel at `(x + horizontal y, y + vertical x)`."""
    if horizontal == vertical == 0:
        return image
    return _project(image, (1, horizontal, 0, vertical, 1, 0))


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turns the picture about its centre, anticlockwise for positive angles."""
    if degrees == 0:
        return image
    height, width, _ = image.shape
    angle = degrees * math.pi / 180
    cos, sin = np.cos(np.float32(angle)), np.sin(np.float32(angle))
    last_row, last_column = np.float32(height - 1), np.float32(width - 1)
    x_offset = (last_column - (cos * last_column - sin * last_row)) / np.float32(2)
    y_offset = (last_row - (sin * last_column + cos * last_row)) / np.float32(2)
    return _project(image, (float(cos), float(-sin), float(x_offset), float(sin), float(cos), float(y_offset)))


def to_grey(image: np.ndarray) -> np.ndarray:
    """Returns uint8 `[height, width]`: `tf.image.rgb_to_grayscale`, with its float32 roundings in its order."""
    height, width, _ = image.shape
    grey = np.empty((height, width), np.uint8)
    for rows, pixels in _strips(image):
        pixels *= np.float32(1 / 255)
        total = cv2.transform(cv2.transform(pixels, _GREY_WEIGHTS, pixels), _SUM)  # apart, so that products are rounded
        total *= np.float32(255.5)
        np.copyto(grey[rows], total, casting="unsafe")
    return grey


def _stretching_table(channel: np.ndarray) -> np.ndarray:
    levels = np.arange(256, dtype=np.float32)
    low, high, _, _ = cv2.minMaxLoc(channel)
    if high > low:
        scale = np.float32(255) / (np.float32(high) - np.float32(low))
        levels = np.clip(levels * scale + -np.float32(low) * scale, 0, 255)
    return levels.astype(np.uint8)


def _equalizing_tables(histograms: np.ndarray) -> np.ndarray:
    """Returns uint8 `[channels, 256]` for int64 histograms of that shape."""
    up_to = np.cumsum(histograms, axis=1)
    highest = np.argmax(up_to == up_to[:, -1:], axis=1)  # the highest grey level there is
    step = ((up_to[:, -1] - histograms[np.arange(len(histograms)), highest]) // 255)[:, None]
    tables = np.zeros(histograms.shape, np.int64)
    np.floor_divide(up_to[:, :-1] + step // 2, np.maximum(step, 1), out=tables[:, 1:])
    return np.where(step, np.minimum(tables, 255), np.arange(256)).astype(np.uint8)


def _look_up(image: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Replaces the grey levels of each channel by the entries of its row in uint8 `[3, 256]`; of large pictures in pairs.

    Two pixels are three pairs of bytes, (red, green), (blue, red) and (green, blue), and each has a table of 65,536.
    """
    height, width, _ = image.shape
    if image.size < _PAIRS_FROM_BYTES or width % 2:
        return cv2.LUT(image, np.ascontiguousarray(tables.T)[None])
    red, green, blue = tables.astype("<u2")
    pairs = [second[:, None] << 8 | first for first, second in ((red, green), (blue, red), (green, blue))]
    two_pixels = image.reshape(height, -1).view("<u2").reshape(height, -1, 3)
    return cv2.LUT(two_pixels, cv2.merge(pairs).reshape(1, -1, 3)).view(np.uint8).reshape(image.shape)


def _channels(image: np.ndarray) -> list[np.ndarray]:
    """Returns the channels, each contiguous; into given memory OpenCV splits several times as fast."""
    height, width, count = image.shape
    return list(cv2.split(image, list(np.empty((count, height, width), np.uint8))))


def _strips(image: np.ndarray, overlap: int = 0) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields ranges of rows of about `_STRIP_BYTES` with their float32 pixels, in memory that the next range reuses.

    Args:
        image: uint8 `[height, width, 3]`.
        overlap: Rows at the end of each range that the next one begins with.
    """
    height, width, channels = image.shape
    rows = min(height, max(_STRIP_BYTES // (width * channels), 2 * overlap) + overlap)
    buffer = np.empty((rows, width, channels), np.float32)
    for first in range(0, height - overlap, rows - overlap):
        part = slice(first, min(first + rows, height))
        pixels = buffer[: part.stop - first]
        np.copyto(pixels, image[part])
        yield part, pixels


def _where(image: np.ndarray, comparison: int, threshold: int, value: int) -> np.ndarray:
    """Returns `value` where a grey level is above the threshold (or with `THRESH_BINARY_INV` is not), else 0."""
    return cv2.threshold(image, threshold, value, comparison)[1]


def _smooth(image: np.ndarray) -> np.ndarray:
    """Returns the picture under the kernel ((1, 1, 1), (1, 5, 1), (1, 1, 1)) / 13, truncated; its border stays."""
    smooth = image.copy()
    if min(image.shape[:2]) < 3:
        return smooth
    for part, pixels in _strips(image, overlap=2):
        centre = pixels[1:-1, 1:-1] * (np.float32(5) / np.float32(13))
        pixels *= np.float32(1) / np.float32(13)
        height, width, _ = centre.shape
        total = pixels[:height, :width].copy()
        for row, column in itertools.islice(itertools.product(range(3), repeat=2), 1, None):
            total += centre if (row, column) == (1, 1) else pixels[row : row + height, column : column + width]
        # The nine weights have the sum 1, so this stays below 256.
        np.copyto(smooth[part][1:-1, 1:-1], total, casting="unsafe")
    return smooth


def _blend(start: np.ndarray, end: np.ndarray, factor: float) -> np.ndarray:
    """Returns `start + factor (end - start)` of uint8 pictures, truncated, and clipped where it extrapolates.

    `start` is overwritten with the result.
    """
    table = _blend_table(factor)
    if table is None:
        return _blend_fast(start, end, factor, _BLEND_MARGIN, start)
    height, width, channels = start.shape
    flat = height, width * channels
    pairs = cv2.merge([start.reshape(flat), end.reshape(flat)]).view("<u2").reshape(flat)
    return cv2.LUT(pairs, table, start.reshape(flat)).reshape(start.shape)


def _blend_fast(start: np.ndarray, end: np.ndarray, factor: float, margin: float, out: np.ndarray) -> np.ndarray:
    """Blends in vector instructions that round to the nearest: half a level less, and a margin, makes that truncation."""
    return cv2.addWeighted(start, 1 - factor, end, factor, margin - 0.5, out)


@functools.lru_cache(maxsize=64)
def _blend_table(factor: float) -> np.ndarray | None:
    """Returns the blend of every pair of grey levels, uint8 `[65536]`, at `start + 256 end`; None: `_blend_fast` has it.

    It has it when margins on either side of the one that is used give the same levels for all pairs.
    """
    levels = np.arange(256, dtype=np.uint8)
    start, end = np.tile(levels, 256), np.repeat(levels, 256)
    first = start.astype(np.float32)
    blended = first + np.float32(factor) * (end.astype(np.float32) - first)
    table = np.clip(blended, 0, 255).astype(np.uint8)
    pictures = start.reshape(256, 256), end.reshape(256, 256)
    fast = [_blend_fast(*pictures, factor, margin, np.empty_like(pictures[0])) for margin in _BLEND_MARGINS]
    return None if all(np.array_equal(result.ravel(), table) for result in fast) else table


def _project(image: np.ndarray, transform: tuple[float, ...]) -> np.ndarray:
    """Takes for each `(x, y)` the nearest pixel to `(t0 x + t1 y + t2, t3 x + t4 y + t5)`, grey outside the picture."""
    height, width, _ = image.shape
    pixels = np.empty((height * width + 1, 4), np.uint8)  # four bytes are moved as one number
    cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, pixels[:-1].reshape(height, width, 4))
    pixels[-1] = GREY
    sources = _nearest_sources(height, width, transform)
    moved = pixels.view(np.uint32).ravel().take(sources, mode="wrap")  # no source is outside; this does not check it
    return cv2.cvtColor(moved.view(np.uint8).reshape(height, width, 4), cv2.COLOR_RGBA2RGB)


@functools.lru_cache(maxsize=64)
def _nearest_sources(height: int, width: int, transform: tuple[float, ...]) -> np.ndarray:
    """Returns int64 `[height * width]`: the number of the pixel each one comes from, `height * width` for grey.

    Computed in `ImageProjectiveTransformV3`'s float32. Halves are rounded away from zero, as `std::round` does. Policies
    use few transforms, so they are kept.
    """
    x = np.arange(width, dtype=np.float32)[None]
    y = np.arange(height, dtype=np.float32)[:, None]
    t0, t1, t2, t3, t4, t5 = (np.float32(coefficient) for coefficient in transform)
    sources = np.stack([t0 * x + t1 * y + t2, t3 * x + t4 * y + t5])
    column, row = np.trunc(sources + np.copysign(np.float32(0.5), sources)).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.where(inside, row * width + column, height * width).ravel()
