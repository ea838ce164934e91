"""The initialisers of each family.

Kernels are [height, width, in, out] and depthwise kernels [height, width, 1, channels]. EfficientNet's initialisers are
normal, not truncated. A depthwise kernel has the fan-out of TensorFlow's layout, height * width; Flax's `variance_scaling`
would multiply it by the channels.

Sources: tensorflow/tpu, models/official/efficientnet/efficientnet_model.py and models/official/resnet/resnet_model.py;
google/automl, efficientnetv2/effnetv2_model.py; tensorflow/models, research/slim/nets/mobilenet_v1.py.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer


def conv_kernel_init(rng: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Normal with standard deviation sqrt(2 / (height * width * out)) [efficientnet_model.py]."""
    height, width, _, outputs = shape
    return math.sqrt(2 / (height * width * outputs)) * jax.random.normal(rng, shape, dtype)


def depthwise_kernel_init(rng: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Normal with standard deviation sqrt(2 / (height * width)): 0.471 for 3x3, 0.283 for 5x5 [efficientnet_model.py].

    TensorFlow's kernel is [height, width, channels, 1], so its fan-out has no factor of `channels`.
    """
    height, width = shape[:2]
    return math.sqrt(2 / (height * width)) * jax.random.normal(rng, shape, dtype)


def dense_kernel_init(rng: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Uniform within +-1 / sqrt(outputs) [efficientnet_model.py]."""
    limit = 1 / math.sqrt(shape[1])
    return jax.random.uniform(rng, shape, dtype, -limit, limit)


class Initializers(NamedTuple):
    """The initialisers of a family.

    Attributes:
      conv: For dense kernels.
      depthwise: For depthwise kernels.
      classifier: For the classifier's kernel.
      last_scale: For the scale of the BatchNorm before an activated sum.
    """

    conv: Initializer
    depthwise: Initializer
    classifier: Initializer
    last_scale: Initializer = nn.initializers.ones


_SLIM = nn.initializers.truncated_normal(
    0.09
)  # of the normal before truncation, as TensorFlow counts it [mobilenet_v1.py]

INITIALIZERS = {
    "efficientnet": Initializers(conv_kernel_init, depthwise_kernel_init, dense_kernel_init),
    "mobilenet": Initializers(_SLIM, _SLIM, _SLIM),
    "resnet": Initializers(  # [resnet_model.py]
        conv=nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal"),
        depthwise=depthwise_kernel_init,
        classifier=nn.initializers.normal(0.01),
        last_scale=nn.initializers.zeros,
    ),
}
