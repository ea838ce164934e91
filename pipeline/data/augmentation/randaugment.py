"""RandAugment (Cubuk et al., arXiv 1909.13719): a few operations drawn uniformly, all at one magnitude.

As published, there is no identity among the 16 operations, draws may repeat, and every drawn operation is applied. The
published code also draws a probability but ignores it. All random draws come from the generator that is passed in.
"""

import dataclasses

import numpy as np

from pipeline.data.augmentation import levels


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """RandAugment(layers, magnitude) as a picklable callable.

    Attributes:
        layers: Number of operations applied to each image.
        magnitude: Their level, on the scale where 10 is AutoAugment's largest; published results went up to 28.
        semantics: "published" or "clean", see `levels.py`.
    """

    layers: int
    magnitude: float
    semantics: str

    @property
    def scale(self) -> levels.Scale:
        """How strong level 10 is."""
        return levels.Scale(self.semantics, translate_pixels=100.0, cutout_pixels=40.0, increasing=True)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the augmented image, uint8 of the shape of `image`, which stays unchanged."""
        for index in rng.integers(len(levels.OPERATIONS), size=self.layers):
            image = levels.apply(levels.OPERATIONS[index], image, self.magnitude, self.scale, rng)
        return image
