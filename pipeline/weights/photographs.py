"""Images to compare exports on: two photographs that come with scikit-learn, or the user's own.

Noise hides differences between a network and its export; photographs show them. They also calibrate int8 unless the user gives
images.
"""

import importlib.resources
from collections.abc import Sequence

import numpy as np
from etils import epath

from pipeline.data.decoding.headers import DamagedImageError
from pipeline.data.decoding.images import decode
from pipeline.data.resizing import resize
from pipeline.errors import DataError
from pipeline.weights.metadata import Metadata

PHOTOGRAPHS = ("china.jpg", "flower.jpg")
_CROPS = 32  # number of crops of the photographs, for calibration


def prepare(images: Sequence[bytes], metadata: Metadata, names: Sequence[str]) -> np.ndarray:
    """Preprocesses image files as for evaluation: uint8 `[images, size, size, 3]`.

    Raises:
      DataError: an image is damaged; the message names it.
    """
    transform = metadata.eval_transform()
    prepared = []
    for data, name in zip(images, names):
        try:
            prepared.append(transform.pixels(data))
        except DamagedImageError as error:
            raise DataError(f"{name}: {error}") from error
    return np.stack(prepared)


def read_images(paths: Sequence[str]) -> list[bytes]:
    """Reads files; raises `DataError` that names an unreadable one."""
    try:
        return [epath.Path(path).read_bytes() for path in paths]
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from error


def photographs() -> list[bytes]:
    """Returns the bytes of scikit-learn's photographs."""
    folder = importlib.resources.files("sklearn.datasets") / "images"
    return [(folder / name).read_bytes() for name in PHOTOGRAPHS]


def calibration_crops(image_size: int) -> np.ndarray:
    """Returns fixed square crops of the photographs, uint8 `[32, size, size, 3]`."""
    rng = np.random.default_rng(0)
    images = [decode(data) for data in photographs()]
    crops = []
    for number in range(_CROPS):
        image = images[number % len(images)]
        side = int(rng.integers(min(image.shape[:2]) // 3, min(image.shape[:2])))
        top, left = (int(rng.integers(length - side)) for length in image.shape[:2])
        crops.append(resize(image[top : top + side, left : left + side], image_size, "bilinear"))
    return np.stack(crops)
