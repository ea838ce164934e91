"""AutoAugment's policy v0, with which the published EfficientNets were trained (Cubuk et al., arXiv 1805.09501).

One of 25 sub-policies is drawn for each image, and each of its two operations is applied with its own probability. The table is
here; `levels.py` defines what an operation does at a level. All random draws come from the generator that is passed in.
"""

import dataclasses

import numpy as np

from pipeline.data.augmentation import levels

V0 = (  # (operation, probability, level) [autoaugment.py policy_v0]
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
    """Policy v0 as a picklable callable.

    Attributes:
        semantics: "published" or "clean", see `levels.py`.
    """

    semantics: str

    @property
    def scale(self) -> levels.Scale:
        """How strong level 10 is; Solarize and Posterize weaken with the level, as when the policy was searched."""
        return levels.Scale(self.semantics, translate_pixels=250.0, cutout_pixels=100.0, increasing=False)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the augmented image, uint8 of the shape of `image`, which stays unchanged."""
        for name, probability, level in V0[rng.integers(len(V0))]:
            if rng.random() < probability:
                image = levels.apply(name, image, level, self.scale, rng)
        return image
