"""The picture operations of AutoAugment and RandAugment, as the published TensorFlow code computes them.

Each function takes and returns uint8 RGB of shape `[height, width, 3]` and never writes into its argument. Results
are equal to the TensorFlow ops to the bit, including float32 rounding and truncation where those decide the grey
level; what a level of a policy means as an argument is `levels.py`'s business. Source of every rule: autoaugment.py
of the published code. Operations on single grey levels are tables of 256 entries; a blend of two pictures is one
table of 65,536.
"""

import functools
import math

import cv2
import numpy as np

GREY = 128  # what moves into the picture in geometric operations

_STRIP_BYTES = 1 << 17  # of a picture; the float32 temporaries of a strip fit in a second-level cache
_PAIRS_FROM_BYTES = 1 << 18  # from here on a table of 65,536 pairs costs less to fill than it saves
_SUM = np.ones((1, 3), np.float32)
_GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)  # tf.image.rgb_to_grayscale


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Stretches each channel to 0..255; a channel of one grey level stays."""
    channels = _channels(image)
    return cv2.merge([_look_up(channel, _stretching_table(channel)) for channel in channels])


def equalize(image: np.ndarray) -> np.ndarray:
    """Equalises the histogram of each channel with Pillow's integer arithmetic."""
    channels = _channels(image)
    return cv2.merge([_look_up(channel, _equalizing_table(channel)) for channel in channels])


def invert(image: np.ndarray) -> np.ndarray:
    """Subtracts each grey level from 255."""
    return cv2.bitwise_not(image)


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts the grey levels from a threshold (0 to 256) on."""
    levels = np.arange(256)
    return _look_up(image, np.where(levels < threshold, levels, 255 - levels).astype(np.uint8))


def solarize_add(image: np.ndarray, addition: int) -> np.ndarray:
    """Adds to the grey levels below 128, up to 255."""
    levels = np.arange(256)
    return _look_up(image, np.where(levels < 128, np.minimum(levels + addition, 255), levels).astype(np.uint8))


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keeps the highest bits (1 to 8) of each grey level."""
    return _look_up(image, (np.arange(256) >> (8 - bits) << (8 - bits)).astype(np.uint8))


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from the grey picture (factor 0) to the picture (1) and beyond."""
    result = np.empty_like(image)
    for rows in _strips(image):
        grey = cv2.cvtColor(to_grey(image[rows]), cv2.COLOR_GRAY2RGB)
        _blend_pictures(grey, image[rows], factor, out=result[rows])
    return result


def contrast(image: np.ndarray, factor: float, mean: int) -> np.ndarray:
    """Blends from a uniform grey of level `mean` (factor 0) to the picture (1) and beyond."""
    return _look_up(image, _blend(np.full(256, mean, np.uint8), np.arange(256, dtype=np.uint8), factor))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from black (factor 0) to the picture (1) and beyond."""
    return _look_up(image, _blend(np.zeros(256, np.uint8), np.arange(256, dtype=np.uint8), factor))


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from the smoothed picture (factor 0) to the picture (1) and beyond; the outermost pixels stay."""
    smooth = image.copy()
    if min(image.shape[:2]) > 2:
        smooth[1:-1, 1:-1] = _smooth(image)
    _blend_pictures(smooth, image, factor, out=smooth)
    return smooth


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
    pixels = image.astype(np.float32)
    pixels *= np.float32(1 / 255)
    pixels.reshape(len(image), -1)[...] *= _grey_weights(image.shape[1])
    total = cv2.transform(pixels, _SUM)
    total *= np.float32(255.5)
    return total.astype(np.uint8)


@functools.lru_cache(maxsize=8)
def _grey_weights(width: int) -> np.ndarray:
    return np.tile(np.array(_GREY_WEIGHTS, np.float32), width)


def _stretching_table(channel: np.ndarray) -> np.ndarray:
    levels = np.arange(256, dtype=np.float32)
    low, high, _, _ = cv2.minMaxLoc(channel)
    if high > low:
        scale = np.float32(255) / (np.float32(high) - np.float32(low))
        levels = np.clip(levels * scale + -np.float32(low) * scale, 0, 255)
    return levels.astype(np.uint8)


def _equalizing_table(channel: np.ndarray) -> np.ndarray:
    histogram = cv2.calcHist([channel], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    step = (channel.size - histogram[histogram.nonzero()[0][-1]]) // 255
    if step == 0:
        return np.arange(256, dtype=np.uint8)
    table = np.zeros(256, np.int64)
    table[1:] = (np.cumsum(histogram)[:-1] + step // 2) // step
    return np.minimum(table, 255).astype(np.uint8)


def _channels(image: np.ndarray) -> list[np.ndarray]:
    """Returns the channels, each contiguous; into given memory OpenCV splits several times as fast."""
    height, width, count = image.shape
    return list(cv2.split(image, list(np.empty((count, height, width), np.uint8))))


def _strips(image: np.ndarray) -> list[slice]:
    """Returns row ranges of about `_STRIP_BYTES`."""
    rows = max(1, _STRIP_BYTES // (image.shape[1] * image.shape[2]))
    return [slice(first, first + rows) for first in range(0, image.shape[0], rows)]


def _look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replaces each grey level by its entry in `table`, uint8 `[256]`; large pictures two bytes at a time."""
    if image.size < _PAIRS_FROM_BYTES or image.size % 2:
        return cv2.LUT(image, table)
    wide = table.astype(np.uint16)
    pairs = (wide[:, None] << 8 | wide).ravel()
    return cv2.LUT(image.reshape(1, -1).view(np.uint16), pairs).view(np.uint8).reshape(image.shape)


def _smooth(image: np.ndarray) -> np.ndarray:
    """Returns the inner pixels under the kernel ((1, 1, 1), (1, 5, 1), (1, 1, 1)) / 13, truncated."""
    height, width, _ = image.shape
    total = np.zeros((height - 2, width - 2, 3), np.float32)
    pixels = image.astype(np.float32)
    for row in range(3):
        for column in range(3):
            weight = np.float32(5 if (row, column) == (1, 1) else 1) / np.float32(13)
            total += pixels[row : height - 2 + row, column : width - 2 + column] * weight
    return np.clip(total, 0, 255).astype(np.uint8)


def _blend(start: np.ndarray, end: np.ndarray, factor: float) -> np.ndarray:
    """Returns `start + factor (end - start)` of uint8 arrays, truncated, and clipped where it extrapolates."""
    first = start.astype(np.float32)
    blended = first + np.float32(factor) * (end.astype(np.float32) - first)
    return np.clip(blended, 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _blend_table(factor: float) -> np.ndarray:
    """Returns the blend of every pair of grey levels, uint8 `[65536]`, at `start + 256 end`."""
    levels = np.arange(256, dtype=np.uint8)
    return _blend(np.tile(levels, 256), np.repeat(levels, 256), factor)


def _blend_pictures(start: np.ndarray, end: np.ndarray, factor: float, out: np.ndarray) -> None:
    """Writes the blend of two uint8 pictures, looked up pair by pair, to `out`, which may be one of them."""
    height, width, channels = start.shape
    flat = height, width * channels
    pairs = cv2.merge([start.reshape(flat), end.reshape(flat)]).view("<u2").reshape(flat)
    cv2.LUT(pairs, _blend_table(factor), out.reshape(flat))


def _project(image: np.ndarray, transform: tuple[float, ...]) -> np.ndarray:
    """Takes for each `(x, y)` the nearest pixel to `(t0 x + t1 y + t2, t3 x + t4 y + t5)`, grey outside the picture."""
    sources = _nearest_sources(image.shape[0], image.shape[1], transform)
    return cv2.remap(
        image, sources, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(GREY, GREY, GREY)
    )


@functools.lru_cache(maxsize=64)
def _nearest_sources(height: int, width: int, transform: tuple[float, ...]) -> np.ndarray:
    """Returns int16 `[height, width, 2]`, the (x, y) each pixel comes from, in `ImageProjectiveTransformV3`'s float32.

    Halves are rounded away from zero, as `std::round` does. Policies use few transforms, so they are kept.
    """
    x = np.arange(width, dtype=np.float32)[None]
    y = np.arange(height, dtype=np.float32)[:, None]
    t0, t1, t2, t3, t4, t5 = (np.float32(coefficient) for coefficient in transform)
    sources = np.stack([t0 * x + t1 * y + t2, t3 * x + t4 * y + t5], axis=-1)
    rounded = np.trunc(sources + np.copysign(np.float32(0.5), sources))
    return np.clip(rounded, -(2**15), 2**15 - 1).astype(np.int16)
