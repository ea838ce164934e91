"""BatchNorm, its activation and squeeze-and-excitation together, with a gradient that reads the pixels twice.

Computed one after the other, the gradients read the pixels three times on TPUs: for the gate's sum over each image, for
BatchNorm's two sums over each group, which depend on the gate's, and for the gradient itself. But the gate adds the same
value to the gradient of all pixels of an image. It can be moved out of BatchNorm's sums, and one pass of five sums over each
image gives both.

XLA:CPU makes a separate pass for each sum. There, and on other platforms, the gradients are computed one after the other.

Values and gradients equal those of `batch_norm` followed by the gate, up to rounding.
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
    """Returns a * gate(variables, mean of a over the pixels of each image), with a = `batch_norm(images, …)`.

    Args:
      images: [batch, height, width, channels].
      scale: [channels].
      bias: [channels].
      gate_variables: A tree of arrays, the first argument of `gate`.
      groups: Number of groups of images with their own statistics.
      epsilon: Added to the variance.
      activation: Applied to the normalised values, before the gate.
      dtype: Dtype of the output.
      gate: Maps its variables and float32 means [batch, 1, 1, channels] to factors of that shape.

    Returns:
      Output, mean and variance, as `batch_norm`.
    """
    return _forward(images, scale, bias, gate_variables, groups, epsilon, activation, dtype, gate)[0]


def channel_means(images: jax.Array) -> jax.Array:
    """Returns the means over the pixels of each image, float32 [batch, 1, 1, channels]."""
    return images.mean(axis=(1, 2), keepdims=True, dtype=jnp.float32)


def _forward(images, scale, bias, gate_variables, groups, epsilon, activation, dtype, gate):
    normalized, mean, var = batch_norm(images, scale, bias, groups, epsilon, activation, dtype)
    inverse_stddev = lax.rsqrt(var + epsilon)
    means = channel_means(normalized)
    # Recompute behind a barrier; otherwise the pass that takes the means would store the pixels for the next one.
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
    """Returns the gradients of `batch_norm_and_gate`: first through the gate, then through `batch_norm`."""

    def outputs(images, scale, bias, gate_variables):
        normalized, _, _ = batch_norm(images, scale, bias, groups, epsilon, activation, dtype)
        return normalized * gate(gate_variables, channel_means(normalized))

    _, pullback = jax.vjp(outputs, *residuals[:4])
    return pullback(cotangent)


def fused_backward(groups, activation, gate, residuals, cotangent):
    """Returns the same gradients with all sums over pixels from one pass.

    An image has P pixels, inputs x, activations a with slopes a', their mean m, the gate e(m), and the cotangent d. The
    gradient by a is

        d * e + k, where k = e'(m) * sum(d * a) / P does not depend on the pixel.

    So BatchNorm's two sums are

        sum((d * e + k) * a')     = e * sum(d * a')     + k * sum(a')
        sum((d * e + k) * a' * x) = e * sum(d * a' * x) + k * sum(a' * x)
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
