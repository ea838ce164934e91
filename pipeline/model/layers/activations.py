"""The activation functions, written so that XLA:CPU computes each once.

XLA:CPU duplicates cheap operations into every consumer and stores the results of expensive ones, such as a division. `nn.swish`
ends in a product, so every consumer would repeat it and all cheap operations before it. A quotient is stored once. Values and
gradients equal those of `nn.swish` and `nn.relu6` up to rounding.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

Activation = Callable[[jax.Array], jax.Array]


@jax.custom_vjp
def swish(x: jax.Array) -> jax.Array:
    """Returns x / (1 + exp(-x)), which is x * sigmoid(x); any shape, the dtype of `x`."""
    return x / (1 + jnp.exp(-x))


def _swish_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return swish(x), x


def _swish_backward(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    # Clipped at -40 so that exp(-x) stays finite; below, the derivative is 0 in any dtype.
    x = jnp.maximum(x, -40)
    exponential = jnp.exp(-x)
    return (cotangent * (1 + exponential + x * exponential) / jnp.square(1 + exponential),)


swish.defvjp(_swish_forward, _swish_backward)

ACTIVATIONS: dict[str, Activation] = {"swish": swish, "relu": nn.relu, "relu6": nn.relu6}
