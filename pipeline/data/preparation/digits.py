"""The 1,797 handwritten digits that come with scikit-learn: real images that need no download.

The split of 1,437 for training and 360 for testing is stratified by class and fixed: it depends on the order in scikit-learn's
file alone. Images are 8 by 8 pixels, grey, one byte a pixel, stored as PNG.
Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI repository (1998), its test part.
"""

import hashlib
from typing import TYPE_CHECKING, cast

import numpy as np

from pipeline.data.preparation.shards import Split

if TYPE_CHECKING:
    from sklearn.utils import Bunch

NAME = "digits"
CLASS_NAMES = tuple(str(digit) for digit in range(10))
DESCRIPTION = "The 1,797 handwritten digits of scikit-learn, 8 by 8 pixels, grey."
TEST_EXAMPLES = 360


def digits_splits() -> tuple[Split, Split]:
    """Returns the splits "train" and "test"."""
    from sklearn.datasets import load_digits

    digits = cast("Bunch", load_digits())  # a tuple only with return_X_y=True
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8]; scikit-learn counts 0..16
    test = stratified_subset(digits.target, TEST_EXAMPLES)
    train = np.setdiff1d(np.arange(len(pixels)), test)
    return _split("train", pixels[train], digits.target[train], train), _split(
        "test", pixels[test], digits.target[test], test
    )


def _split(name: str, pixels: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Split:
    import cv2

    def read(i: int) -> bytes:
        return cv2.imencode(".png", pixels[i])[1].tobytes()

    return Split(name, [f"{index:04d}.png" for index in indices], labels.tolist(), read, image_bytes=130)


def stratified_subset(labels: np.ndarray, size: int) -> np.ndarray:
    """Chooses `size` examples, stratified by class with the largest-remainder method.

    Args:
        labels: the class of each example, integers `[n]`.
        size: the number of examples to choose.

    Returns:
        Sorted indices, int64 `[size]`. Within a class, those with the smallest hashes are chosen.
    """
    classes, counts = np.unique(labels, return_counts=True)
    quotas = counts * size / len(labels)
    chosen = np.floor(quotas).astype(int)
    chosen[np.argsort(chosen - quotas, kind="stable")[: size - chosen.sum()]] += 1
    subset = []
    for label, count in zip(classes, chosen):
        members = sorted(
            np.flatnonzero(labels == label).tolist(), key=lambda i: hashlib.blake2b(str(i).encode()).digest()
        )
        subset.extend(members[:count])
    return np.sort(np.array(subset, dtype=np.int64))
