"""The StableHLO format: the training code's own forward pass, serialised by `jax.export` with the weights inside.

`jax.export.deserialize(bytes).call(images)` runs it on CPU, TPU or CUDA without this project. Images are uint8 `[batch, size,
size, 3]`, for any batch and the image size of the weights.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.weights.container import Weights
from pipeline.weights.forward import Forward, logits_function

MODEL = "model.stablehlo"
PLATFORMS = ("cpu", "tpu", "cuda")


def write(weights: Weights, folder: pathlib.Path) -> None:
    """Writes `model.stablehlo`."""
    size = weights.metadata.image_size
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    exported = jax.export.export(jax.jit(logits_function(weights)), platforms=PLATFORMS)(images)
    (folder / MODEL).write_bytes(exported.serialize())


def load(folder: pathlib.Path) -> Forward:
    """Opens `model.stablehlo` on the default device."""
    # It reads any buffer; its type has only one of them.
    exported = jax.export.deserialize((folder / MODEL).read_bytes())  # pyrefly: ignore[bad-argument-type]
    return lambda images: np.asarray(exported.call(images))
