"""RandAugment (Cubuk et al., arXiv 1909.13719): a few operations drawn uniformly, all at one magnitude.

As published there is no identity among the 16 operations, draws may repeat, and each drawn operation is applied: the
probability that the published code also draws is thrown away there. All draws come from the generator passed in.
"""

import dataclasses

import numpy as np

from pipeline.data.augmentation import levels


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """RandAugment(layers, magnitude) as a picklable callable.

    Attributes:
        layers: Operations applied to each image.
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
        """Returns the augmented image, uint8 `[height, width, 3]` as `image`, which is not written to."""
        for index in rng.integers(len(levels.OPERATIONS), size=self.layers):
            image = levels.apply(levels.OPERATIONS[index], image, self.magnitude, self.scale, rng)
        return image
