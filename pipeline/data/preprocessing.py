"""Transforms one example between the dataset and the batch: decode, crop, resize, flip, augment.

`train_transform` and `eval_transform` build picklable callables from `config.data`. Pixels are uint8; normalisation happens
on the device. Randomness comes only from the generator of the example, so an example is the same on every host and in every
worker. A damaged image becomes a black one of weight 0, which `damage.py` names and training replaces.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np
from ml_collections import ConfigDict

from pipeline.configuration import domains
from pipeline.data import crops, resizing
from pipeline.data.augmentation.autoaugment import AutoAugment
from pipeline.data.augmentation.erasing import RandomErasing
from pipeline.data.augmentation.randaugment import RandAugment
from pipeline.data.decoding import images
from pipeline.data.decoding.headers import DamagedImageError

Example = dict[str, Any]
Step = Callable[[Any, np.random.Generator], np.ndarray]


class EvalSettings(Protocol):
    """The keys of `config.data` that evaluation reads, as attributes."""

    @property
    def eval_crop(self) -> str: ...
    @property
    def eval_crop_padding(self) -> int: ...
    @property
    def eval_crop_fraction(self) -> float: ...
    @property
    def resize(self) -> str: ...
    @property
    def apply_exif_orientation(self) -> bool: ...


def train_transform(data_config: ConfigDict, image_size: int) -> "TrainTransform":
    """Builds the training preprocessing of `config.data`.

    Args:
        data_config: `config.data` of `configs/recipe.py`.
        image_size: Pixels of each side of the result.

    Raises:
        ConfigError: If an option has an unknown value.
    """
    _check(data_config, "crop", "crop_area", "crop_covers", "shift_fraction", "random_erasing", "train_resize")
    return TrainTransform(
        evaluation=eval_transform(data_config, image_size),
        crop=data_config.crop,
        crop_area=tuple(data_config.crop_area),
        crop_covers=data_config.crop_covers,
        shift_fraction=data_config.shift_fraction,
        flip=data_config.flip,
        exact_resize=data_config.train_resize == "exact",
        augment=augmentation(data_config),
        erase=RandomErasing(data_config.random_erasing) if data_config.random_erasing else None,
    )


def augmentation(data_config: ConfigDict) -> AutoAugment | RandAugment | None:
    """Returns the augmentation policy of `config.data`, or None.

    Raises:
        ConfigError: If an option has an impossible value.
    """
    _check(data_config, "augment", "augment_semantics", "randaugment_layers", "randaugment_magnitude")
    if data_config.augment == "autoaugment_v0":
        return AutoAugment(data_config.augment_semantics)
    if data_config.augment == "randaugment":
        return RandAugment(
            data_config.randaugment_layers, data_config.randaugment_magnitude, data_config.augment_semantics
        )
    return None


def eval_transform(data_config: ConfigDict | EvalSettings, image_size: int) -> "EvalTransform":
    """Builds the evaluation preprocessing of `config.data`.

    Args:
        data_config: `config.data` of `configs/recipe.py`, or the `Preprocessing` of weights.
        image_size: Pixels of each side of the result.

    Raises:
        ConfigError: If an option has an unknown value.
    """
    _check(data_config, "eval_crop", "eval_crop_padding", "eval_crop_fraction", "resize")
    share = None
    if data_config.eval_crop == "padding":
        share = image_size / (image_size + data_config.eval_crop_padding)
    elif data_config.eval_crop == "fraction":
        share = data_config.eval_crop_fraction
    return EvalTransform(
        image_size=image_size,
        resize=data_config.resize,
        crop_share=share,
        apply_exif_orientation=data_config.apply_exif_orientation,
    )


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """Centre crop and resize.

    Attributes:
        image_size: Pixels of each side of the result.
        resize: One of `resizing.METHODS`.
        crop_share: Side of the centre crop as a share of the image's shorter side; None: the whole image.
        apply_exif_orientation: Whether to turn images as their EXIF tag says.
    """

    image_size: int
    resize: str
    crop_share: float | None
    apply_exif_orientation: bool

    def __call__(self, example: Example) -> Example:
        """Maps `{"image": bytes, "label", "record"}` to the same with uint8 `[size, size, 3]`, and `"weight"`."""
        return _finish(example, self.image_size, self.pixels)

    def pixels(self, data: bytes) -> np.ndarray:
        """Returns uint8 `[image_size, image_size, 3]`; raises `DamagedImageError`."""
        image = images.decode_crop(data, self.crop_box, self.apply_exif_orientation)
        return resizing.resize(image, self.image_size, self.resize)

    def crop_box(self, height: int, width: int) -> crops.CropBox:
        """Returns the box of an image that is used."""
        if self.crop_share is None:
            return 0, 0, height, width
        return crops.centre_crop_box(height, width, self.crop_share)


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Random crop, resize, flip and augmentation.

    Attributes:
        evaluation: The evaluation's preprocessing: size, kernel, and the crop if no random box was found.
        crop: "random_resized"; "shift": the whole image resized and moved by a few pixels, black moving in; or "evaluation".
        crop_area: Smallest and largest share of the image, for "random_resized".
        crop_covers: Smaller shares are drawn again, for "random_resized".
        shift_fraction: Largest translation along each axis as a share of the size, for "shift".
        flip: Whether to mirror half of the images.
        exact_resize: Whether to follow TensorFlow 1's bicubic to the bit; see `resizing.py`.
        augment: The policy, or None.
        erase: The erasing after the policy, or None.
    """

    evaluation: EvalTransform
    crop: str
    crop_area: tuple[float, float]
    crop_covers: float
    shift_fraction: float
    flip: bool
    exact_resize: bool
    augment: AutoAugment | RandAugment | None
    erase: RandomErasing | None

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Maps `{"image": bytes, "label", "record"}` to the same with uint8 `[size, size, 3]`, and `"weight"`."""
        return _finish(example, self.evaluation.image_size, lambda data: self.pixels(data, rng))

    def pixels(self, data: bytes, rng: np.random.Generator) -> np.ndarray:
        """Returns uint8 `[image_size, image_size, 3]`; raises `DamagedImageError`."""
        decode, *others = self.steps().values()
        image = decode(data, rng)
        for step in others:
            image = step(image, rng)
        return image

    def steps(self) -> dict[str, Step]:
        """Returns what happens to an image, in order: each step takes what the one before it returned; the first, a file."""
        return {
            "decode and crop": self._decode,
            "resize and flip": self._resize,
            **({"shift": self._shift} if self.crop == "shift" else {}),
            **({"augment": self.augment} if self.augment else {}),
            **({"erase": self.erase} if self.erase else {}),
        }

    def _decode(self, data: bytes, rng: np.random.Generator) -> np.ndarray:
        orient = self.evaluation.apply_exif_orientation
        if self.crop == "shift":
            return images.decode(data, orient)
        if self.crop == "evaluation":
            return images.decode_crop(data, self.evaluation.crop_box, orient)
        return images.decode_crop(data, lambda height, width: self._random_crop_box(height, width, rng), orient)

    def _random_crop_box(self, height: int, width: int, rng: np.random.Generator) -> crops.CropBox:
        box = crops.random_crop_box(height, width, self.crop_area, rng, self.crop_covers)
        return self.evaluation.crop_box(height, width) if box is None else box

    def _resize(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        mirror = self.flip and rng.random() < 0.5
        size, method = self.evaluation.image_size, self.evaluation.resize
        if method == "bicubic_tf1" and not self.exact_resize:
            # The samples are symmetric, so mirroring may come first; mirroring a large result would cost more.
            return resizing.resize_centred(cv2.flip(image, 1) if mirror else image, size)
        image = resizing.resize(image, size, method, truncate=self.augment is not None)
        return cv2.flip(image, 1) if mirror else image

    def _shift(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size = self.evaluation.image_size
        reach = round(self.shift_fraction * size)
        top, left = rng.integers(0, 2 * reach + 1, size=2)
        padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)))
        return np.ascontiguousarray(padded[top : top + size, left : left + size])


def _finish(example: Example, image_size: int, pixels: Callable[[bytes], np.ndarray]) -> Example:
    """Returns the example with decoded pixels, or a black one of weight 0 if the image is damaged."""
    try:
        image, weight = pixels(example["image"]), 1.0
    except DamagedImageError:
        image, weight = np.zeros((image_size, image_size, 3), np.uint8), 0.0
    return {
        "image": np.ascontiguousarray(image),
        "label": np.int32(example["label"]),
        "weight": np.float32(weight),
        "record": np.int64(example["record"]),
    }


def _check(data_config: ConfigDict | EvalSettings, *keys: str) -> None:
    for key in keys:
        domains.check_value(f"data.{key}", getattr(data_config, key))
