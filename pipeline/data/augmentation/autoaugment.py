"""AutoAugment (Cubuk et al., arXiv 1805.09501) with policy v0, which trained the published EfficientNets.

The policy draws one of 25 sub-policies for each image. A sub-policy has two operations, and each is applied with its own
probability. This module holds the table. `levels.py` defines what an operation does at a level. All random draws come from the
generator that the caller passes in.

Source: `policy_v0` in tensorflow/tpu, models/official/efficientnet/autoaugment.py.
"""

import dataclasses

import numpy as np

from pipeline.data.augmentation import levels

# (operation, probability, level). Two operations have probability 0, as in the published table.
V0 = (
    (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
    (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
    (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
    (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
    (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
    (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
    (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
    (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
    (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
    (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
    (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
    (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
    (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
    (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
    (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
    (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9)),
    (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
    (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
    (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
    (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
    (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
    (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
    (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
    (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
    (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
)


@dataclasses.dataclass(frozen=True)
class AutoAugment:
    """Policy v0 as a callable, which can be pickled for the input workers.

    Attributes:
        semantics: "published" reproduces the TensorFlow code, "clean" omits its accidents; see `levels.py`.
    """

    semantics: str

    @property
    def scale(self) -> levels.Scale:
        """The strength of level 10.

        Both pixel values are those of the published code. When the policy was searched, a higher level meant a weaker Solarize
        and Posterize, so `increasing` is False.
        """
        return levels.Scale(self.semantics, translate_pixels=250.0, cutout_pixels=100.0, increasing=False)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augments one image.

        Args:
            image: uint8 RGB `[height, width, 3]`; stays unchanged.
            rng: The source of all draws.

        Returns:
            uint8 RGB `[height, width, 3]`; `image` itself if no operation changes it.
        """
        for name, probability, level in V0[rng.integers(len(V0))]:
            if rng.random() < probability:
                image = levels.apply(name, image, level, self.scale, rng)
        return image
