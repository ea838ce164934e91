"""BatchNorm, its activation and squeeze-and-excitation in one, with a gradient that reads the pixels twice.

Taken one after the other, XLA:TPU reads them three times: for the gradient of the gate, which wants a sum over each
image; for the two sums over a group of images that BatchNorm's gradient wants, and that wait for the gate's; and for
the gradient itself. But what the gate adds to the gradient is the same for all pixels of an image, so it can be taken
out of BatchNorm's sums: five sums over each image, all from one pass, give both.

XLA:CPU makes a pass of its own of each sum, so there, and wherever else nothing is known to be gained, the gradients are
taken one after the other.

Invariant: values and gradients are those of `batch_norm` followed by the gate, but for rounding.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pipeline.model.layers.activations import Activation
from pipeline.model.layers.batch_statistics import (
    batch_norm,
    group_means,
    normalized_values,
    opaque,
    through_statistics,
)

Gate = Callable[[Any, jax.Array], jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6, 7, 8))
def batch_norm_and_gate(
    images: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    gate_variables: Any,
    groups: int,
    epsilon: float,
    activation: Activation,
    dtype: jnp.dtype,
    gate: Gate,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises with batch statistics, then multiplies by the gate of the means of each image's channels.

    Args:
      images: As in `batch_norm`, like all arguments but the gate and its variables.
      scale: [channels].
      bias: [channels].
      gate_variables: A tree of arrays, the first argument of `gate`.
      groups: How many groups.
      epsilon: Added to the variance.
      activation: Applied before the means are taken.
      dtype: Of the output.
      gate: Maps its variables and float32 means [batch, 1, 1, channels] to factors of that shape.

    Returns:
      As `batch_norm`.
    """
    return _forward(images, scale, bias, gate_variables, groups, epsilon, activation, dtype, gate)[0]


def channel_means(images: jax.Array) -> jax.Array:
    """Means of [batch, height, width, channels] over the pixels of each image: float32 [batch, 1, 1, channels]."""
    return images.mean(axis=(1, 2), keepdims=True, dtype=jnp.float32)


def _forward(images, scale, bias, gate_variables, groups, epsilon, activation, dtype, gate):
    normalized, mean, var = batch_norm(images, scale, bias, groups, epsilon, activation, dtype)
    inverse_stddev = lax.rsqrt(var + epsilon)
    means = channel_means(normalized)
    # Once more, as if from other statistics: else the pass that takes the means would write the pixels down for the next one.
    normalized = activation(normalized_values(images, scale, bias, *opaque((mean, inverse_stddev)))).astype(dtype)
    residuals = images, scale, bias, gate_variables, mean, inverse_stddev, means
    return (normalized * gate(gate_variables, means), mean, var), residuals


def _backward(groups, epsilon, activation, dtype, gate, residuals, cotangents):
    return lax.platform_dependent(
        residuals,
        cotangents[0],
        tpu=functools.partial(fused_backward, groups, activation, gate),
        default=functools.partial(sequential_backward, groups, epsilon, activation, dtype, gate),
    )


batch_norm_and_gate.defvjp(_forward, _backward)


def sequential_backward(groups, epsilon, activation, dtype, gate, residuals, cotangent):
    """The gradients of `batch_norm_and_gate` by images, scale, bias and variables: the gate's first, then `batch_norm`'s."""

    def outputs(images, scale, bias, gate_variables):
        normalized, _, _ = batch_norm(images, scale, bias, groups, epsilon, activation, dtype)
        return normalized * gate(gate_variables, channel_means(normalized))

    _, pullback = jax.vjp(outputs, *residuals[:4])
    return pullback(cotangent)


def fused_backward(groups, activation, gate, residuals, cotangent):
    """The same gradients, with all sums over pixels from one pass.

    For an image of P pixels, outputs a and a gate e(m) of their mean m, the gradient by a is d e + k: d is the cotangent,
    and k = e'(m) sum(d a) / P has no pixels. With a' the slope of the activation, BatchNorm's sums are therefore
    sum((d e + k) a') = e sum(d a') + k sum(a'), and likewise with the inputs x: e sum(d a' x) + k sum(a' x).
    """
    images, scale, bias, gate_variables, mean, inverse_stddev, means = residuals
    cotangent = cotangent.astype(jnp.float32)
    activated, pullback = jax.vjp(activation, normalized_values(images, scale, bias, mean, inverse_stddev))
    (slope,) = pullback(jnp.ones_like(activated))

    sums = functools.partial(jnp.sum, axis=(1, 2), keepdims=True)
    gate_values, gate_pullback = jax.vjp(gate, gate_variables, means)
    variables_gradient, means_gradient = gate_pullback(sums(cotangent * activated).astype(gate_values.dtype))
    gate_values = gate_values.astype(jnp.float32)
    pixels = images.shape[1] * images.shape[2]
    constant = means_gradient / pixels

    gradient_sums = gate_values * sums(cotangent * slope) + constant * sums(slope)
    product_sums = gate_values * sums(cotangent * slope * images) + constant * sums(slope * images)
    mean_gradient, mean_product = (group_means(total, groups) / pixels for total in (gradient_sums, product_sums))
    gradient = (cotangent * gate_values + constant) * slope
    gradients = through_statistics(images, scale, mean, inverse_stddev, gradient, mean_gradient, mean_product)
    return *gradients, variables_gradient
