"""Random erasing (Zhong et al., arXiv 1708.04896): a random rectangle of the image becomes noise.

No published EfficientNet result used it; other recipes do. All random draws come from the generator that is passed in.
"""

import dataclasses
import math

import numpy as np

_AREA = (0.02, 0.4)  # share of the image [paper, section 5.2]
_ASPECT_RATIO = (0.3, 1 / 0.3)  # height / width [paper]
_ATTEMPTS = 100


@dataclasses.dataclass(frozen=True)
class RandomErasing:
    """Random erasing as a picklable callable.

    Attributes:
        probability: Probability that an image loses a rectangle.
    """

    probability: float

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns uint8 of the shape of `image`, which stays unchanged."""
        if rng.random() >= self.probability:
            return image
        height, width, _ = image.shape
        for _ in range(_ATTEMPTS):
            area = rng.uniform(*_AREA) * height * width
            ratio = math.exp(rng.uniform(math.log(_ASPECT_RATIO[0]), math.log(_ASPECT_RATIO[1])))
            rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < rows <= height and 0 < columns <= width:
                top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
                erased = image.copy()
                erased[top : top + rows, left : left + columns] = rng.integers(0, 256, (rows, columns, 3), np.uint8)
                return erased
        return image
