"""Maps the name and the level of a policy's operation to a call of `operations.py`.

Levels run from 0 to 10, and beyond in RandAugment. There are two semantics:

- `published` is what the published TensorFlow code does when it is run today, accidents included. Solarize's threshold wraps at
  256. Posterize outside 1 to 8 bits keeps one bit. Translations and cutouts are in pixels, whatever the image's size. Contrast
  takes the pixel count for the mean grey.
- `clean` has none of these. Sizes are relative to the image and, for RandAugment, a higher level is a stronger change.
"""

import dataclasses

import numpy as np

from pipeline.data.augmentation import operations
from pipeline.errors import ConfigError

SEMANTICS = ("published", "clean")

OPERATIONS = (  # in the order of RandAugment's list [autoaugment.py]
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Cutout",
    "SolarizeAdd",
)

_CLEAN_TRANSLATE_SHARE = 0.45  # of the image's side at level 10: RandAugment's constant, 100 of 224 pixels
_CLEAN_CUTOUT_SHARE = 40 / 224  # of the shorter side at level 10: half the side of the square


@dataclasses.dataclass(frozen=True)
class Scale:
    """How strong level 10 is.

    Attributes:
        semantics: One of `SEMANTICS`.
        translate_pixels: Largest translation, with "published".
        cutout_pixels: Half the side of the largest cutout, with "published".
        increasing: Whether a higher level is a stronger change for every operation, with "clean".
    """

    semantics: str
    translate_pixels: float
    cutout_pixels: float
    increasing: bool

    def __post_init__(self):
        if self.semantics not in SEMANTICS:
            raise ConfigError(f"augmentation semantics {self.semantics!r}; expected one of {', '.join(SEMANTICS)}")


def apply(name: str, image: np.ndarray, level: float, scale: Scale, rng: np.random.Generator) -> np.ndarray:
    """Applies an operation of `OPERATIONS` at a level.

    Args:
        name: The operation.
        image: uint8 RGB `[height, width, 3]`; stays unchanged.
        level: 0 to 10, or beyond.
        scale: How strong level 10 is.
        rng: Draws the sign of geometric operations and the position of the cutout.

    Returns:
        uint8 RGB `[height, width, 3]`; `image` itself if the level changes nothing.
    """
    magnitude = level / 10
    match name:
        case "AutoContrast":
            return operations.auto_contrast(image)
        case "Equalize":
            return operations.equalize(image)
        case "Invert":
            return operations.invert(image)
        case "Rotate":
            return operations.rotate(image, _either_sign(magnitude * 30.0, rng))
        case "ShearX":
            return operations.shear(image, _either_sign(magnitude * 0.3, rng), 0.0)
        case "ShearY":
            return operations.shear(image, 0.0, _either_sign(magnitude * 0.3, rng))
        case "SolarizeAdd":
            return operations.solarize_add(image, int(magnitude * 110))
    return (_published if scale.semantics == "published" else _clean)(name, image, magnitude, scale, rng)


def _published(name: str, image: np.ndarray, magnitude: float, scale: Scale, rng: np.random.Generator) -> np.ndarray:
    match name:
        case "Posterize":
            bits = int(magnitude * 4)  # the shift by 8 - bits is clamped to 7, and wraps to 255 below 0
            return operations.posterize(image, bits if 1 <= bits <= 8 else 1)
        case "Solarize":
            return operations.solarize(image, int(magnitude * 256) % 256)  # compared as uint8
        case "Color":
            return operations.color(image, magnitude * 1.8 + 0.1)
        case "Contrast":
            mean = min(
                image.shape[0] * image.shape[1] // 256, 255
            )  # the original sums the histogram instead of averaging
            return operations.contrast(image, magnitude * 1.8 + 0.1, mean)
        case "Brightness":
            return operations.brightness(image, magnitude * 1.8 + 0.1)
        case "Sharpness":
            return operations.sharpness(image, magnitude * 1.8 + 0.1)
        case "TranslateX":
            return operations.translate(image, _either_sign(magnitude * scale.translate_pixels, rng), 0.0)
        case "TranslateY":
            return operations.translate(image, 0.0, _either_sign(magnitude * scale.translate_pixels, rng))
        case "Cutout":
            return operations.cutout(image, int(magnitude * scale.cutout_pixels), rng)
    raise ValueError(f"unknown operation {name!r}; expected one of {', '.join(OPERATIONS)}")


def _clean(name: str, image: np.ndarray, magnitude: float, scale: Scale, rng: np.random.Generator) -> np.ndarray:
    height, width, _ = image.shape
    match name:
        case "Posterize":
            bits = 8 - int(magnitude * 4) if scale.increasing else int(magnitude * 4)
            return operations.posterize(image, min(max(bits, 1), 8))
        case "Solarize":
            threshold = 256 - int(magnitude * 256) if scale.increasing else int(magnitude * 256)
            return operations.solarize(image, min(max(threshold, 0), 256))
        case "Color":
            return operations.color(image, _clean_factor(magnitude, scale, rng))
        case "Contrast":
            return operations.contrast(
                image, _clean_factor(magnitude, scale, rng), round(float(operations.to_grey(image).mean()))
            )
        case "Brightness":
            return operations.brightness(image, _clean_factor(magnitude, scale, rng))
        case "Sharpness":
            return operations.sharpness(image, _clean_factor(magnitude, scale, rng))
        case "TranslateX":
            return operations.translate(image, _either_sign(magnitude * _CLEAN_TRANSLATE_SHARE * width, rng), 0.0)
        case "TranslateY":
            return operations.translate(image, 0.0, _either_sign(magnitude * _CLEAN_TRANSLATE_SHARE * height, rng))
        case "Cutout":
            return operations.cutout(image, int(magnitude * _CLEAN_CUTOUT_SHARE * min(height, width)), rng)
    raise ValueError(f"unknown operation {name!r}; expected one of {', '.join(OPERATIONS)}")


def _clean_factor(magnitude: float, scale: Scale, rng: np.random.Generator) -> float:
    """Returns the factor of a blend. 1 changes nothing; an increasing factor moves away from 1 in either direction."""
    if not scale.increasing:
        return magnitude * 1.8 + 0.1
    return max(0.1, 1 + _either_sign(magnitude * 0.9, rng))


def _either_sign(value: float, rng: np.random.Generator) -> float:
    return value if rng.random() < 0.5 else -value
