"""Resizes uint8 images with the four kernels that EfficientNets use, as sparse matrices along each axis.

- `bicubic_tf1` is TensorFlow 1's `resize_bicubic`: no half-pixel centres, no antialiasing, a = -0.75, weights from a table of
  1,024 steps. All published numbers used it.
- `bicubic` and `bicubic_antialias` are TensorFlow 2's `tf.image.resize` (half-pixel centres, a = -0.5). The second is also
  Pillow's.
- `bilinear` is TensorFlow 2's, without antialiasing.

Sums are float32 and are clipped to 0..255 at the end. The published pipeline does not clip if it does not augment.
"""

import functools

import cv2
import numpy as np
from scipy import sparse

METHODS = ("bicubic_tf1", "bicubic", "bicubic_antialias", "bilinear")

_TABLE_STEPS = 1024  # [resize_bicubic_op.cc]


def resize(image: np.ndarray, size: int, method: str, truncate: bool = False) -> np.ndarray:
    """Resizes an image to a square; the aspect ratio is not kept.

    Args:
        image: uint8 `[height, width, 3]`.
        size: Pixels of each side of the result.
        method: One of `METHODS`.
        truncate: Round towards zero, as the published code does before it augments, instead of to the nearest.

    Returns:
        uint8 `[size, size, 3]`.
    """
    height, width, channels = image.shape
    rows = _matrix(height, size, method) @ image.reshape(height, -1).astype(np.float32)
    columns = cv2.transpose(rows.reshape(size, width, channels)).reshape(width, -1)
    result = _matrix(width, size, method) @ columns
    if not truncate:
        result += 0.5
    np.clip(result, 0, 255, out=result)
    return cv2.transpose(result.astype(np.uint8).reshape(size, size, channels))


def resize_centred(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes with the cubic kernel of `bicubic_tf1` (a = -0.75, no antialiasing) on half-pixel centres, in integers.

    Compared with `bicubic_tf1`, the samples lie `(scale - 1) / 2` source pixels further right and down, where `scale` is the
    source pixels per pixel of the result. After a random crop, this moves the crop by a fraction of a pixel. The result is
    rounded to the nearest grey level; the published code truncates before it augments. It is several times as fast.

    Args:
        image: uint8 `[height, width, 3]`.
        size: Pixels of each side of the result.

    Returns:
        uint8 `[size, size, 3]`.
    """
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)


@functools.lru_cache(maxsize=4096)
def _matrix(inputs: int, outputs: int, method: str) -> sparse.csr_matrix:
    """Returns the interpolation along one axis as a float32 matrix of shape `[outputs, inputs]`."""
    scale = np.float32(inputs) / np.float32(outputs)
    if method == "bicubic_tf1":
        positions = np.arange(outputs, dtype=np.float32) * scale
        first = np.floor(positions).astype(np.int64)
        fractions = np.rint((positions - first) * _TABLE_STEPS) / _TABLE_STEPS
        taps = np.arange(-1, 3)
        weights = _cubic(np.abs(fractions[:, None] - taps), a=-0.75)
        indices = first[:, None] + taps
    else:
        stretch = max(1.0, float(scale)) if method == "bicubic_antialias" else 1.0
        centres = (np.arange(outputs) + 0.5) * (inputs / outputs) - 0.5
        reach = int(np.ceil(2 * stretch))
        indices = np.floor(centres).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
        distances = np.abs(indices - centres[:, None]) / stretch
        if method == "bilinear":
            weights = np.maximum(0, 1 - distances)
        else:
            weights = _cubic(distances, a=-0.5) * ((indices >= 0) & (indices < inputs))
        weights /= weights.sum(axis=1, keepdims=True)
    indices = np.clip(indices, 0, inputs - 1)
    starts = np.arange(outputs + 1) * indices.shape[1]
    return sparse.csr_matrix((weights.astype(np.float32).ravel(), indices.ravel(), starts), shape=(outputs, inputs))


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Evaluates Keys' cubic convolution kernel (IEEE Transactions ASSP-29, 1981) at distances of at least 0."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
