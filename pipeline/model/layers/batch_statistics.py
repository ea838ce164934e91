"""Normalisation with the statistics of groups of images, and the activation after it, with a gradient of its own.

Owns how statistics are taken, forward and backward: first over the pixels of each image, then over the images of a group,
so that no array of pixels changes its shape. Mean and mean of squares are reduced side by side in float32, and so are the
two sums of the gradient: XLA joins each pair in one all-reduce for a layer, limited to the devices that hold a group. Knows
nothing of parameters and running statistics.

Invariant: values and gradients depend on the groups, and never on how many devices share the batch, but for rounding.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pipeline.model.layers.activations import Activation


def group_size(batch: int, bn_batch: int) -> int:
    """The number of images that share statistics: `bn_batch`, or the whole batch where that is smaller.

    Raises:
      ValueError: If the groups do not divide the batch.
    """
    size = min(bn_batch, batch)
    if size < 1 or batch % size:
        raise ValueError(
            f"model.bn_batch={bn_batch} does not divide the batch of {batch} images into equal groups; "
            "take a divisor of batch_size, or a bn_batch of at least batch_size for one group"
        )
    return size


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def batch_norm(
    images: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    groups: int,
    epsilon: float,
    activation: Activation,
    dtype: jnp.dtype,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises with batch statistics; the gradient is written out so that it keeps only `images` and needs two sums.

    Args:
      images: [batch, height, width, channels].
      scale: [channels].
      bias: [channels].
      groups: How many groups of consecutive images have statistics of their own.
      epsilon: Added to the variance.
      activation: Applied to the normalised values, in float32.
      dtype: Of the output.

    Returns:
      The activated output, of the shape of `images` and `dtype`; mean and biased variance, float32 [groups, channels],
      through which no gradient flows.
    """
    values = images.astype(jnp.float32)
    mean = group_means(values, groups)
    var = jnp.maximum(group_means(lax.square(values), groups) - lax.square(mean), 0.0)
    normalized = normalized_values(images, scale, bias, mean, lax.rsqrt(var + epsilon))
    return activation(normalized).astype(dtype), mean, var


def _forward(images, scale, bias, groups, epsilon, activation, dtype):
    outputs, mean, var = batch_norm(images, scale, bias, groups, epsilon, activation, dtype)
    return (outputs, mean, var), (images, scale, bias, mean, lax.rsqrt(var + epsilon))


def _backward(groups, epsilon, activation, dtype, residuals, cotangents):
    del epsilon, dtype
    images, scale, bias, mean, inverse_stddev = residuals
    _, pullback = jax.vjp(activation, normalized_values(images, scale, bias, mean, inverse_stddev))
    (gradient,) = pullback(cotangents[0].astype(jnp.float32))
    # Rounded as the array that two passes read: in float32 it would be twice the memory to write and to read.
    gradient = gradient.astype(images.dtype).astype(jnp.float32)
    mean_gradient, mean_product = group_means(gradient, groups), group_means(gradient * images, groups)
    return through_statistics(images, scale, mean, inverse_stddev, gradient, mean_gradient, mean_product)


batch_norm.defvjp(_forward, _backward)


def normalized_values(
    images: jax.Array, scale: jax.Array, bias: jax.Array, mean: jax.Array, inverse_stddev: jax.Array
) -> jax.Array:
    """Normalises [batch, height, width, channels] by statistics [groups, channels], scales and shifts; float32."""
    return (images - per_image(mean, images)) * per_image(inverse_stddev * scale, images) + bias


def through_statistics(
    images: jax.Array,
    scale: jax.Array,
    mean: jax.Array,
    inverse_stddev: jax.Array,
    gradient: jax.Array,
    mean_gradient: jax.Array,
    mean_product: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Takes the gradient of the normalised values back through the statistics that normalised them.

    Args:
      images: What was normalised, [batch, height, width, channels].
      scale: [channels].
      mean: float32 [groups, channels].
      inverse_stddev: float32 [groups, channels].
      gradient: By the normalised, scaled and shifted values; float32, of the shape of `images`.
      mean_gradient: Of each group, float32 [groups, channels].
      mean_product: Of `gradient * images` over each group, likewise.

    Returns:
      The gradients by `images`, in their dtype, and by the scale and the bias, float32 [channels].
    """
    # Of the gradient with the standardised values: E[g (x - mean)] / stddev.
    correlation = (mean_product - mean * mean_gradient) * inverse_stddev
    count = images.size // (len(mean) * images.shape[-1])
    offset = mean_gradient - mean * inverse_stddev * correlation
    slope = inverse_stddev * correlation
    by_images = per_image(inverse_stddev * scale, images) * (
        gradient - per_image(offset, images) - images * per_image(slope, images)
    )
    return by_images.astype(images.dtype), count * correlation.sum(axis=0), count * mean_gradient.sum(axis=0)


def group_means(values: jax.Array, groups: int) -> jax.Array:
    """Means of [batch, height, width, channels] over each group of images: [groups, channels]."""
    batch, height, width, channels = values.shape
    sums = values.sum(axis=(1, 2)).reshape(groups, batch // groups, channels).sum(axis=1)
    return sums / (batch // groups * height * width)


def per_image(statistics: jax.Array, images: jax.Array) -> jax.Array:
    """Spreads [groups, channels] over the images of each group: [batch, 1, 1, channels].

    XLA:TPU that sees one value for all pixels of a channel writes the normalised pixels down, and reads them again, where
    it could normalise them a second time in passing. Opaque, they are an array like others.
    """
    return opaque(jnp.repeat(statistics, len(images) // len(statistics), axis=0)[:, None, None])


def opaque(arrays: Any) -> Any:
    """The same arrays, of which XLA:TPU does not know where they come from; other platforms need no such hint."""
    return lax.platform_dependent(arrays, tpu=lax.optimization_barrier, default=lambda arrays: arrays)
