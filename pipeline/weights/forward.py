"""The reference forward pass of exports: the training code's own network, in float32."""

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.errors import DataError
from pipeline.model.layers.inputs import normalize_images
from pipeline.model.network import Network
from pipeline.model.scaling import architecture
from pipeline.weights.container import Weights
from pipeline.weights.metadata import Metadata

Forward = Callable[[np.ndarray], np.ndarray]  # uint8 [batch, height, width, 3] to float32 logits [batch, num_classes]


def build_network(metadata: Metadata) -> Network:
    """Builds the network of the weights, in float32."""
    return Network(architecture(metadata.variant), metadata.num_classes, bn_epsilon=metadata.bn_epsilon)


def logits_function(weights: Weights) -> Callable[[jax.Array], jax.Array]:
    """Returns a traceable function from uint8 images `[batch, height, width, 3]` to logits, with the weights inside."""
    network, preprocessing = build_network(weights.metadata), weights.metadata.preprocessing
    variables = weights.variables()

    def logits(images: jax.Array) -> jax.Array:
        normalized = normalize_images(images, preprocessing.mean_rgb, preprocessing.stddev_rgb, jnp.float32)
        return cast(jax.Array, network.apply(variables, normalized, train=False))  # a tuple only with `mutable`

    return logits


def make_forward(weights: Weights) -> Forward:
    """Returns the compiled forward pass; no device rounds its products to fewer bits.

    The function raises `DataError` if its output is not finite, which finite weights can cause.
    """
    compiled = jax.jit(logits_function(weights))

    def forward(images: np.ndarray) -> np.ndarray:
        with jax.default_matmul_precision("highest"):
            logits = np.asarray(compiled(images))
        if not np.isfinite(logits).all():
            raise DataError(f"{weights.where}: with these weights the network's outputs are not finite numbers")
        return logits

    return forward
