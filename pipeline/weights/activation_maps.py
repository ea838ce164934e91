"""Class-activation maps: where on an image a class gets its logit from.

The logit of a class is the mean, over the places of the last feature map, of the features weighted by the classifier's
weights of that class, and its bias. The map is that product before the mean is taken.

Source: Zhou et al., arXiv 1512.04150, section 2; for compound scaling Tan and Le, arXiv 1905.11946, figure 7.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.errors import DataError
from pipeline.model.layers.inputs import normalize_images
from pipeline.weights.container import Weights
from pipeline.weights.forward import build_network


@dataclasses.dataclass(frozen=True)
class Activations:
    """What a network computes from an image.

    Attributes:
      features: Float32 `[rows, columns, features]`, the last feature map.
      classifier: Float32 `[features, classes]`, its weights.
      logits: Float32 `[classes]`.
    """

    features: np.ndarray
    classifier: np.ndarray
    logits: np.ndarray

    def map_of(self, label: int) -> np.ndarray:
        """Returns the map of a class, float32 `[rows, columns]`; its mean is the class's logit less the bias."""
        return self.features @ self.classifier[:, label]

    @property
    def probabilities(self) -> np.ndarray:
        """Float64 `[classes]`."""
        shares = np.exp(self.logits.astype(np.float64) - self.logits.max())
        return shares / shares.sum()

    def most_probable(self, count: int) -> list[int]:
        """Returns the labels of the highest logits, the highest first."""
        return [int(label) for label in np.argsort(-self.logits, kind="stable")[:count]]


def make_activations(weights: Weights) -> Callable[[np.ndarray], Activations]:
    """Returns the compiled function from an image, uint8 `[size, size, 3]`, to its activations.

    What it returns is finite: it raises `DataError` where the weights lead to no numbers.
    """
    network, preprocessing = build_network(weights.metadata), weights.metadata.preprocessing
    variables = weights.variables()
    classifier = np.asarray(variables["params"]["head"]["classifier"]["kernel"], np.float32)

    @jax.jit
    def compiled(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        normalized = normalize_images(images, preprocessing.mean_rgb, preprocessing.stddev_rgb, jnp.float32)
        outputs = network.apply(variables, normalized, False, method="endpoints")
        return outputs["maps"], outputs["logits"]

    def activations(image: np.ndarray) -> Activations:
        with jax.default_matmul_precision("highest"):
            features, logits = (np.asarray(each[0]) for each in compiled(image[None]))
        if not (np.isfinite(features).all() and np.isfinite(logits).all()):
            raise DataError(f"{weights.where}: with these weights the network's outputs are not finite numbers")
        return Activations(features, classifier, logits)

    return activations
