"""Computes class-activation maps, which show where on an image a class gets its logit from.

With features f[y, x, k] of the last feature map and the classifier's weights w[k, c] and bias b[c]:

  map[y, x, c] = sum_k f[y, x, k] * w[k, c]        logit[c] = mean_yx map[y, x, c] + b[c]

Source: Zhou et al., arXiv 1512.04150, section 2; for compound scaling Tan and Le, arXiv 1905.11946, figure 7.
"""

import dataclasses
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.errors import DataError
from pipeline.model.layers.inputs import normalize_images
from pipeline.weights.container import Weights
from pipeline.weights.forward import build_network


@dataclasses.dataclass(frozen=True)
class Activations:
    """The last feature map and the logits of an image.

    Attributes:
      features: float32 `[rows, columns, features]`.
      classifier: float32 `[features, classes]`; the classifier's weights.
      logits: float32 `[classes]`.
    """

    features: np.ndarray
    classifier: np.ndarray
    logits: np.ndarray

    def map_of(self, label: int) -> np.ndarray:
        """Returns the map of a class, float32 `[rows, columns]`. Its mean is the class's logit minus the bias."""
        return self.features @ self.classifier[:, label]

    @property
    def probabilities(self) -> np.ndarray:
        """The probabilities of the classes, float64 `[classes]`."""
        shares = np.exp(self.logits.astype(np.float64) - self.logits.max())
        return shares / shares.sum()

    def most_probable(self, count: int) -> list[int]:
        """Returns the labels with the highest logits, in descending order."""
        return [int(label) for label in np.argsort(-self.logits, kind="stable")[:count]]


def make_activations(weights: Weights) -> Callable[[np.ndarray], Activations]:
    """Returns a compiled function from an image, uint8 `[size, size, 3]`, to its activations.

    The function raises `DataError` if an output is not finite.
    """
    network, preprocessing = build_network(weights.metadata), weights.metadata.preprocessing
    variables = weights.variables()
    classifier = np.asarray(variables["params"]["head"]["classifier"]["kernel"], np.float32)

    @jax.jit
    def compiled(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        normalized = normalize_images(images, preprocessing.mean_rgb, preprocessing.stddev_rgb, jnp.float32)
        outputs = cast(dict[str, jax.Array], network.apply(variables, normalized, False, method="endpoints"))
        return outputs["maps"], outputs["logits"]

    def activations(image: np.ndarray) -> Activations:
        with jax.default_matmul_precision("highest"):
            features, logits = (np.asarray(each[0]) for each in compiled(image[None]))
        if not (np.isfinite(features).all() and np.isfinite(logits).all()):
            raise DataError(f"{weights.where}: with these weights the network's outputs are not finite numbers")
        return Activations(features, classifier, logits)

    return activations
