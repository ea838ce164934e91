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

_GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)  # tf.image.rgb_to_grayscale


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Stretches each channel to 0..255; a channel of one grey level stays."""
    tables = np.empty((256, 3), np.uint8)
    levels = np.arange(256, dtype=np.float32)
    for channel in range(3):
        low, high, _, _ = cv2.minMaxLoc(image[..., channel])
        if high > low:
            scale = np.float32(255) / (np.float32(high) - np.float32(low))
            tables[:, channel] = np.clip(levels * scale + -np.float32(low) * scale, 0, 255)
        else:
            tables[:, channel] = levels
    return cv2.LUT(image, tables[None])


def equalize(image: np.ndarray) -> np.ndarray:
    """Equalises the histogram of each channel with Pillow's integer arithmetic."""
    tables = np.empty((256, 3), np.uint8)
    for channel in range(3):
        histogram = cv2.calcHist([image], [channel], None, [256], [0, 256]).astype(np.int64).ravel()
        step = (histogram.sum() - histogram[np.flatnonzero(histogram)[-1]]) // 255
        if step == 0:
            tables[:, channel] = np.arange(256)
        else:
            below = np.concatenate([[0], np.cumsum(histogram)[:-1] + step // 2]) // step
            below[0] = 0
            tables[:, channel] = np.minimum(below, 255)
    return cv2.LUT(image, tables[None])


def invert(image: np.ndarray) -> np.ndarray:
    """Subtracts each grey level from 255."""
    return cv2.bitwise_not(image)


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts the grey levels from a threshold (0 to 256) on."""
    levels = np.arange(256)
    return cv2.LUT(image, np.where(levels < threshold, levels, 255 - levels).astype(np.uint8))


def solarize_add(image: np.ndarray, addition: int) -> np.ndarray:
    """Adds to the grey levels below 128, up to 255."""
    levels = np.arange(256)
    return cv2.LUT(image, np.where(levels < 128, np.clip(levels + addition, 0, 255), levels).astype(np.uint8))


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keeps the highest bits (1 to 8) of each grey level."""
    return cv2.LUT(image, (np.arange(256) >> (8 - bits) << (8 - bits)).astype(np.uint8))


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from the grey picture (factor 0) to the picture (1) and beyond."""
    return _blend_pictures(cv2.cvtColor(to_grey(image), cv2.COLOR_GRAY2RGB), image, factor)


def contrast(image: np.ndarray, factor: float, mean: int) -> np.ndarray:
    """Blends from a uniform grey of level `mean` (factor 0) to the picture (1) and beyond."""
    return cv2.LUT(image, _blend(np.full(256, mean, np.uint8), np.arange(256, dtype=np.uint8), factor))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from black (factor 0) to the picture (1) and beyond."""
    return cv2.LUT(image, _blend(np.zeros(256, np.uint8), np.arange(256, dtype=np.uint8), factor))


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends from the smoothed picture (factor 0) to the picture (1) and beyond; the outermost pixels stay."""
    smooth = image.copy()
    if min(image.shape[:2]) > 2:
        smooth[1:-1, 1:-1] = _smooth(image)
    return _blend_pictures(smooth, image, factor)


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
    return _project(image, (1, 0, -right, 0, 1, -down))


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
    """Returns uint8 `[height, width]`: `tf.image.rgb_to_grayscale`, whose float32 sums are made in this order."""
    red, green, blue = (cv2.LUT(channel, table) for channel, table in zip(cv2.split(image), _grey_tables()))
    total = cv2.add(cv2.add(red, green), blue)
    return (total * np.float32(255.5)).astype(np.uint8)


@functools.cache
def _grey_tables() -> list[np.ndarray]:
    levels = np.arange(256, dtype=np.float32) * np.float32(1 / 255)
    return [levels * np.float32(weight) for weight in _GREY_WEIGHTS]


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


def _blend_pictures(start: np.ndarray, end: np.ndarray, factor: float) -> np.ndarray:
    """Returns the blend of two uint8 pictures, looked up pair by pair."""
    height, width, channels = start.shape
    pairs = cv2.merge([start.reshape(height, -1), end.reshape(height, -1)]).view(np.dtype("<u2"))
    return cv2.LUT(pairs.reshape(height, width * channels), _blend_table(factor)).reshape(start.shape)


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
