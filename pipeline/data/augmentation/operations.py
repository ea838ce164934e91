"""The image operations of AutoAugment and RandAugment, as the published TensorFlow code computes them.

Each function takes and returns uint8 RGB of shape `[height, width, 3]` and never writes into its argument. Results equal
those of the TensorFlow ops to the bit, including their float32 rounding and truncation. `levels.py` maps a policy's levels to
arguments. `kernels.py` has the loops that NumPy and OpenCV lack. Source of every rule: autoaugment.py of the published code.
"""

import functools
import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from pipeline.data.augmentation import kernels

GREY = 128  # fills what geometric operations uncover

_STRIP_BYTES = 1 << 17  # of an image; a strip and its planes fit in a second-level cache


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Stretches each channel to 0..255; a channel of one grey level stays."""
    lowest, highest = (columns.reshape(-1, 3) for columns in kernels.extremes(image.reshape(len(image), -1)))
    return _look_up(image, np.stack([_stretching_table(*bounds) for bounds in zip(lowest.min(0), highest.max(0))]))


def equalize(image: np.ndarray) -> np.ndarray:
    """Equalises the histogram of each channel with Pillow's integer arithmetic."""
    return _look_up(image, kernels.equalizing_tables(kernels.histograms(image.reshape(-1, 3))))


def invert(image: np.ndarray) -> np.ndarray:
    """Subtracts each grey level from 255."""
    return cv2.bitwise_not(image)


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts the grey levels from a threshold (0 to 256) on."""
    inverted = _where(image, cv2.THRESH_BINARY, threshold - 1, 255)
    return cv2.bitwise_xor(image, inverted, inverted)  # 255 - level flips every bit


def solarize_add(image: np.ndarray, addition: int) -> np.ndarray:
    """Adds to the grey levels below 128, up to 255."""
    added = _where(image, cv2.THRESH_BINARY_INV, 127, min(addition, 255))
    return cv2.add(image, added, added)


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keeps the highest bits (1 to 8) of each grey level."""
    return np.bitwise_and(image, np.uint8(256 - (1 << (8 - bits))))


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with the grey image: grey at factor 0, unchanged at 1, extrapolated beyond."""
    blended = np.empty(image.shape, np.uint8)
    for rows, planes in _planes(image):
        kernels.blend_with_grey(*(plane.ravel() for plane in planes), np.float32(factor))
        cv2.merge(planes, blended[rows])
    return blended


def contrast(image: np.ndarray, factor: float, mean: int) -> np.ndarray:
    """Blends with a uniform grey of level `mean`: grey at factor 0, unchanged at 1, extrapolated beyond."""
    return _blend_with_level(image, mean, factor)


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with black: black at factor 0, unchanged at 1, extrapolated beyond."""
    return _blend_with_level(image, 0, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with the smoothed image: smoothed at factor 0, unchanged at 1; the outermost pixels stay."""
    height, width, _ = image.shape
    blended = image.copy()
    if min(height, width) >= 3:
        flat = height, width * 3
        kernels.blend_with_smooth(image.reshape(flat), np.float32(factor), blended.reshape(flat))
    return blended


def cutout(image: np.ndarray, reach: int, rng: np.random.Generator) -> np.ndarray:
    """Covers a square of side `2 * reach` around a random pixel, cut at the borders, with grey."""
    row, column = rng.integers(image.shape[0]), rng.integers(image.shape[1])
    covered = image.copy()
    covered[max(0, row - reach) : row + reach, max(0, column - reach) : column + reach] = GREY
    return covered


def translate(image: np.ndarray, right: float, down: float) -> np.ndarray:
    """Translates the image by pixels, rounded."""
    if right == down == 0:
        return image
    height, width, _ = image.shape
    right, down = round(right), round(down)
    moved = np.full_like(image, GREY)
    source = image[max(0, -down) : max(0, height - down), max(0, -right) : max(0, width - right)]
    moved[max(0, down) :, max(0, right) :][: source.shape[0], : source.shape[1]] = source
    return moved


def shear(image: np.ndarray, horizontal: float, vertical: float) -> np.ndarray:
    """Shears about the top left corner: `(x, y)` takes the pixel at `(x + horizontal * y, y + vertical * x)`."""
    if horizontal == vertical == 0:
        return image
    return _project(image, (1, horizontal, 0, vertical, 1, 0))


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates the image about its centre, anticlockwise for positive angles."""
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
    grey = np.empty(image.shape[:2], np.uint8)
    for rows, planes in _planes(image):
        kernels.grey(*(plane.ravel() for plane in planes), grey[rows].ravel())
    return grey


def _stretching_table(low: np.uint8, high: np.uint8) -> np.ndarray:
    levels = np.arange(256, dtype=np.float32)
    if high > low:
        scale = np.float32(255) / (np.float32(high) - np.float32(low))
        levels = np.clip(levels * scale + -np.float32(low) * scale, 0, 255)
    return levels.astype(np.uint8)


def _look_up(image: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Looks up the levels of each channel in its row of uint8 `[3, 256]`."""
    result = np.empty(image.shape, np.uint8)
    kernels.look_up(image.reshape(-1, 3), tables, result.reshape(-1, 3))
    return result


def _blend_with_level(image: np.ndarray, level: int, factor: float) -> np.ndarray:
    blended = np.empty(image.shape, np.uint8)
    kernels.blend_with_level(image.ravel(), level, np.float32(factor), blended.ravel())
    return blended


def _planes(image: np.ndarray) -> Iterator[tuple[slice, Sequence[np.ndarray]]]:
    """Yields strips of about `_STRIP_BYTES` and their three channels, in memory that the next strip reuses."""
    height, width, channels = image.shape
    size = min(height, max(1, _STRIP_BYTES // (width * channels)))
    buffers = np.empty((channels, size, width), np.uint8)
    for first in range(0, height, size):
        rows = slice(first, min(first + size, height))
        # OpenCV splits several times as fast into given memory.
        yield rows, cv2.split(image[rows], list(buffers[:, : rows.stop - first]))


def _where(image: np.ndarray, comparison: int, threshold: int, value: int) -> np.ndarray:
    """Returns `value` where a level is above the threshold, else 0; `THRESH_BINARY_INV` inverts the condition."""
    return cv2.threshold(image, threshold, value, comparison)[1]


def _project(image: np.ndarray, transform: tuple[float, ...]) -> np.ndarray:
    """Takes for each `(x, y)` the pixel nearest to `(t0 x + t1 y + t2, t3 x + t4 y + t5)`; outside the image, grey."""
    height, width, _ = image.shape
    pixels = np.empty((height * width + 1, 4), np.uint8)  # four bytes are moved as one number
    cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, pixels[:-1].reshape(height, width, 4))
    pixels[-1] = GREY
    sources = _nearest_sources(height, width, transform)
    moved = (
        pixels.view(np.uint32).ravel().take(sources, mode="wrap")
    )  # no index is out of bounds; "wrap" skips the check
    return cv2.cvtColor(moved.view(np.uint8).reshape(height, width, 4), cv2.COLOR_RGBA2RGB)


@functools.lru_cache(maxsize=64)
def _nearest_sources(height: int, width: int, transform: tuple[float, ...]) -> np.ndarray:
    """Returns the source of each pixel as an index, int64 `[height * width]`; `height * width` stands for grey.

    Computed in float32, as `ImageProjectiveTransformV3` does. Halves are rounded away from zero, as by `std::round`. Policies
    use few transforms, so results are cached.
    """
    x = np.arange(width, dtype=np.float32)[None]
    y = np.arange(height, dtype=np.float32)[:, None]
    t0, t1, t2, t3, t4, t5 = (np.float32(coefficient) for coefficient in transform)
    sources = np.stack([t0 * x + t1 * y + t2, t3 * x + t4 * y + t5])
    column, row = np.trunc(sources + np.copysign(np.float32(0.5), sources)).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.where(inside, row * width + column, height * width).ravel()
