"""Weights to try formats on."""

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.model.efficientnet import EfficientNet
from pipeline.model.inputs import normalize
from pipeline.model.scaling import architecture
from pipeline.weights.container import Weights
from pipeline.weights.metadata import Metadata
from pipeline.weights.photographs import calibration_windows


def make_weights(variant="mini0", num_classes=10, image_size=32, **metadata) -> Weights:
    """Random parameters, and BatchNorm statistics of a real forward pass on photographs.

    With the statistics of a new network, logits would be nearly 0 and hide every error.
    """
    stated = Metadata(variant, num_classes, image_size, source="a test", **metadata)
    network = EfficientNet(
        architecture(variant), num_classes, dropout_rate=0.0, survival_probability=1.0, bn_momentum=0.0
    )
    images = calibration_windows(image_size)[:8]
    preprocessing = stated.preprocessing
    images = normalize(images, preprocessing.mean_rgb, preprocessing.stddev_rgb, jnp.float32)

    @jax.jit
    def initialize(rng, images):
        variables = network.init(rng, images[:1], train=False)
        _, updated = network.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)}
        )
        return {"params": variables["params"], "batch_stats": updated["batch_stats"]}

    variables = jax.device_get(initialize(jax.random.key(0), images))
    weights = Weights.from_variables(stated, variables)
    rng = np.random.default_rng(0)
    for tensor in stated.table:  # scales of one and biases of zero would hide an exchange
        if tensor.path.startswith("params/") and tensor.kind == "vector":
            array = weights.arrays[tensor.path]
            weights.arrays[tensor.path] = (array + rng.uniform(-0.1, 0.1, array.shape)).astype(np.float32)
    return weights


def same(one: Weights, other: Weights) -> bool:
    """Whether all arrays are equal to the bit."""
    return one.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(array, other.arrays[path]) for path, array in one.arrays.items()
    )
