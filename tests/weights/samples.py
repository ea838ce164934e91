"""Weights to try formats on."""

import h5py
import numpy as np

from pipeline.weights.container import Weights
from pipeline.weights.keras_network import build_keras
from pipeline.weights.metadata import IMAGENET_MEAN_RGB, Metadata
from pipeline.weights.names import Tensor
from pipeline.weights.photographs import PHOTOGRAPHS, calibration_crops, photographs, prepare
from tests.configs import tiny

TINY = tiny.get_config().model.variant


def random_weights(variant=TINY, num_classes=10, image_size=32, **metadata) -> Weights:
    """Random numbers in the ranges of trained networks: untrained scales and biases would hide an exchange."""
    stated = Metadata(variant, num_classes, image_size, source="a test", **metadata)
    rng = np.random.default_rng(0)
    return Weights(stated, {tensor.path: _random(tensor, rng).astype(np.float32) for tensor in stated.table})


def measured_weights(variant, num_classes=10, image_size=32) -> Weights:
    """Random parameters with the BatchNorm statistics of a real forward pass, on the photographs of `PHOTOGRAPHS` and others.

    Any other statistics let activations grow or fade from block to block, and differences with them: with those of other
    images one rounding of the input becomes 6 % of the logits (Keras beside itself, B7 at 600 pixels, with branches
    that count for only 0.1 to 0.4).
    """
    weights = random_weights(variant, num_classes, image_size)
    images = prepare(photographs(), weights.metadata, PHOTOGRAPHS)
    model = build_keras(weights)
    for layer in model.layers:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.0  # so that the statistics become those of the batch
    model(np.concatenate([images, calibration_crops(image_size)[:2]]).astype(np.float32), training=True)
    found = {variable.path: variable.numpy() for variable in model.weights if "normalization/" not in variable.path}
    return Weights.from_convention(weights.metadata, found, "keras")


def write_keras_2(path, weights, variance=(0.229**2, 0.224**2, 0.225**2)):
    """Writes the layout of Keras 2, as of the files that Keras offers for download."""
    with h5py.File(path, "w") as file:
        layers = {}
        for name, array in weights.in_convention("keras").items():
            if "dwconv" in name:
                name = name.replace("kernel", "depthwise_kernel")
            layers.setdefault(name.split("/")[0], {})[f"{name}:0"] = array
        layers["normalization"] = {
            "normalization/mean:0": np.divide(IMAGENET_MEAN_RGB, 255).astype(np.float32),
            "normalization/variance:0": np.asarray(variance, np.float32),
            "normalization/count:0": np.int64(0),
        }
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, arrays in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, array in arrays.items():
                group[name] = array


def same(one: Weights, other: Weights) -> bool:
    """Whether all arrays are equal to the bit."""
    return one.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(array, other.arrays[path]) for path, array in one.arrays.items()
    )


def _random(tensor: Tensor, rng: np.random.Generator) -> np.ndarray:
    if tensor.path.endswith("/var"):
        return rng.uniform(0.5, 1.5, tensor.shape)
    if tensor.path.endswith("/scale"):
        return rng.uniform(0.6, 1.2, tensor.shape)
    if tensor.kind == "vector":
        return rng.normal(0, 0.1, tensor.shape)
    fan_in = np.prod(tensor.shape[:-1])
    return rng.normal(0, np.sqrt(2 / fan_in), tensor.shape)
