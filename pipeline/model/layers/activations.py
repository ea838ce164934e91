"""The nonlinearities of the networks, written so that XLA:CPU computes each once.

XLA:CPU copies cheap operations into every consumer and keeps what ends in an expensive one, such as a division.
`nn.swish` ends in a product, so that its input is read again, and everything cheap before it repeated, by each
consumer; a quotient is stored once. Invariant: values and gradients are those of `nn.swish` and `nn.relu6` but for
rounding.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

Activation = Callable[[jax.Array], jax.Array]


@jax.custom_vjp
def swish(x: jax.Array) -> jax.Array:
    """x * sigmoid(x), as a quotient; any shape, the dtype of `x`."""
    return x / (1 + jnp.exp(-x))


def _swish_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return swish(x), x


def _swish_backward(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    # Where exp(-x) is too large for its dtype the derivative is 0 in any dtype; -40 keeps the quotient finite over infinite.
    x = jnp.maximum(x, -40)
    exponential = jnp.exp(-x)
    return (cotangent * (1 + exponential + x * exponential) / jnp.square(1 + exponential),)


swish.defvjp(_swish_forward, _swish_backward)

ACTIVATIONS: dict[str, Activation] = {"swish": swish, "relu": nn.relu, "relu6": nn.relu6}
