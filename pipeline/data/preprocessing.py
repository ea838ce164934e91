"""What happens to one example between the dataset and the batch.

`train_transform` and `eval_transform` build picklable callables from `config.data`: decode, crop, resize, flip,
augment, all in uint8; the model's normalisation happens on the device. Randomness comes only from the generator of
the example, so an example is the same on every host and in every worker. A damaged picture is never a crash and never
dropped: it becomes a black picture of weight 0, which the metrics count together with its record number.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from pipeline.data import crops, images, resizing

Example = dict[str, Any]


def train_transform(data_config: ConfigDict, image_size: int) -> "TrainTransform":
    """Builds the published training preprocessing, or what `config.data` makes of it.

    Args:
        data_config: `config.data` of `configs/recipe.py`.
        image_size: Pixels of each side of the result.

    Raises:
        ConfigError: If an option has an unknown value.
    """
    _check_choice("crop", data_config.crop, ("random_resized", "shift"))
    _check_choice("augment", data_config.augment, ("none",))
    return TrainTransform(
        evaluation=eval_transform(data_config, image_size),
        crop=data_config.crop,
        crop_area=tuple(data_config.crop_area),
        shift_fraction=data_config.shift_fraction,
        flip=data_config.flip,
    )


def eval_transform(data_config: ConfigDict, image_size: int) -> "EvalTransform":
    """Builds the evaluation preprocessing of `config.data`.

    Args:
        data_config: `config.data` of `configs/recipe.py`.
        image_size: Pixels of each side of the result.

    Raises:
        ConfigError: If an option has an unknown value.
    """
    _check_choice("eval_crop", data_config.eval_crop, ("padding", "fraction", "none"))
    _check_choice("resize", data_config.resize, resizing.METHODS)
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
        crop_share: Side of the centre crop as a share of the picture's shorter side; None: the whole picture.
        apply_exif_orientation: Whether to turn pictures as their EXIF tag says.
    """

    image_size: int
    resize: str
    crop_share: float | None
    apply_exif_orientation: bool

    def __call__(self, example: Example) -> Example:
        """Maps `{"image": bytes, "label", "record"}` to the same with uint8 `[size, size, 3]`, and `"weight"`."""
        return _finish(example, self.image_size, self.pixels)

    def pixels(self, data: bytes) -> np.ndarray:
        """Returns uint8 `[image_size, image_size, 3]`; raises `DamagedPicture`."""
        return self.crop_and_resize(images.decode(data, self.apply_exif_orientation))

    def crop_and_resize(self, picture: np.ndarray) -> np.ndarray:
        """Returns the resized centre of uint8 `[height, width, 3]`."""
        height, width, _ = picture.shape
        if self.crop_share is not None:
            top, left, height, width = crops.centre_window(height, width, self.crop_share)
            picture = picture[top : top + height, left : left + width]
        return resizing.resize(picture, self.image_size, self.resize)


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Random crop, resize, flip and augmentation.

    Attributes:
        evaluation: Gives size, kernel and the crop that replaces a random window which was not found.
        crop: "random_resized", or "shift": the whole picture resized and moved by a few pixels, black moving in.
        crop_area: Smallest and largest share of the picture, for "random_resized".
        shift_fraction: Largest translation along each axis as a share of the size, for "shift".
        flip: Whether to mirror half of the pictures.
    """

    evaluation: EvalTransform
    crop: str
    crop_area: tuple[float, float]
    shift_fraction: float
    flip: bool

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Maps `{"image": bytes, "label", "record"}` to the same with uint8 `[size, size, 3]`, and `"weight"`."""
        return _finish(example, self.evaluation.image_size, lambda data: self.pixels(data, rng))

    def pixels(self, data: bytes, rng: np.random.Generator) -> np.ndarray:
        """Returns uint8 `[image_size, image_size, 3]`; raises `DamagedPicture`."""
        picture = images.decode(data, self.evaluation.apply_exif_orientation)
        picture = self._shift(picture, rng) if self.crop == "shift" else self._random_resized_crop(picture, rng)
        return picture[:, ::-1] if self.flip and rng.random() < 0.5 else picture

    def _random_resized_crop(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width, _ = picture.shape
        window = crops.random_window(height, width, self.crop_area, rng)
        if window is None:
            return self.evaluation.crop_and_resize(picture)
        top, left, height, width = window
        picture = picture[top : top + height, left : left + width]
        return resizing.resize(picture, self.evaluation.image_size, self.evaluation.resize)

    def _shift(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size = self.evaluation.image_size
        picture = resizing.resize(picture, size, self.evaluation.resize)
        reach = round(self.shift_fraction * size)
        top, left = rng.integers(0, 2 * reach + 1, size=2)
        padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)))
        return padded[top : top + size, left : left + size]


def _finish(example: Example, image_size: int, pixels: Callable[[bytes], np.ndarray]) -> Example:
    """Returns the example with decoded pixels, or a black one of weight 0 when the picture is damaged."""
    try:
        image, weight = pixels(example["image"]), 1.0
    except images.DamagedPicture:
        image, weight = np.zeros((image_size, image_size, 3), np.uint8), 0.0
    return {
        "image": np.ascontiguousarray(image),
        "label": np.int32(example["label"]),
        "weight": np.float32(weight),
        "record": np.int64(example["record"]),
    }


def _check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"config.data.{key} is {value!r}; expected one of {', '.join(choices)}")
