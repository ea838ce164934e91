"""What an operation's name and level mean in a policy: the bridge between the policies and `operations.py`.

Levels run from 0 to 10 and may go beyond in RandAugment. `published` is what the published TensorFlow code does when
it is run today, its accidents included: thresholds of Solarize wrap at 256, Posterize outside 1 to 8 bits keeps one
bit, translations and cutouts are pixels whatever the image's size, Contrast takes the pixel count for the mean
grey. `clean` has none of these: sizes are relative to the image and, for RandAugment, a higher level is a stronger
change.
"""

import dataclasses

import numpy as np

from pipeline.data.augmentation import operations
from pipeline.errors import ConfigError

SEMANTICS = ("published", "clean")

OPERATIONS = (  # the order of RandAugment's list [autoaugment.py]
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

_CLEAN_TRANSLATE_SHARE = 0.45  # of the image's side at level 10; 100 of 224 pixels, what RandAugment's constant means
_CLEAN_CUTOUT_SHARE = 40 / 224  # of the shorter side at level 10, from the middle of the square to its side


@dataclasses.dataclass(frozen=True)
class Scale:
    """How strong level 10 is.

    Attributes:
        semantics: One of `SEMANTICS`.
        translate_pixels: Largest translation, with "published".
        cutout_pixels: Half the side of the largest cutout, with "published".
        increasing: Whether a higher level must be a stronger change for each operation, with "clean".
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
        image: uint8 RGB `[height, width, 3]`; not written to.
        level: 0 to 10, or beyond.
        scale: How strong level 10 is.
        rng: Draws the sign of geometric operations and the place of the cutout.

    Returns:
        uint8 RGB `[height, width, 3]`; `image` itself where the level changes nothing.
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
            mean = min(image.shape[0] * image.shape[1] // 256, 255)  # sums the histogram, where its mean was meant
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
    """Returns the factor of a blend: 1 changes nothing; an increasing one goes from there both ways."""
    if not scale.increasing:
        return magnitude * 1.8 + 0.1
    return max(0.1, 1 + _either_sign(magnitude * 0.9, rng))


def _either_sign(value: float, rng: np.random.Generator) -> float:
    return value if rng.random() < 0.5 else -value
