"""BatchNorm with the statistics of groups of images, the activation after it, and their gradient.

Sums go first over the pixels of each image and then over the images of a group, so no array of pixels is reshaped. Mean and
mean of squares are reduced side by side in float32, and so are the two sums of the gradient: XLA joins each pair into one
all-reduce for a layer, limited to the devices that hold a group.

Values and gradients depend on the groups but, up to rounding, not on how many devices share the batch.
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
    """Normalises with the statistics of groups of images, and activates.

    For a group of images x with n pixels, scale s, bias b and activation f, per channel:

        mean = sum(x) / n
        var = sum(x ** 2) / n - mean ** 2
        y = f((x - mean) / sqrt(var + epsilon) * s + b)

    The gradient is written out: it keeps only `images` for the backward pass and needs two sums over the pixels.

    Args:
      images: [batch, height, width, channels].
      scale: [channels].
      bias: [channels].
      groups: Number of groups of consecutive images with their own statistics.
      epsilon: Added to the variance.
      activation: Applied to the normalised values, in float32.
      dtype: Dtype of the output.

    Returns:
      The activated output y, of the shape of `images` and `dtype`; mean and biased variance, float32 [groups, channels],
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
    # Two passes read this array, so it is rounded to the dtype of the images; float32 would double the traffic.
    gradient = gradient.astype(images.dtype).astype(jnp.float32)
    mean_gradient, mean_product = group_means(gradient, groups), group_means(gradient * images, groups)
    return through_statistics(images, scale, mean, inverse_stddev, gradient, mean_gradient, mean_product)


batch_norm.defvjp(_forward, _backward)


def normalized_values(
    images: jax.Array, scale: jax.Array, bias: jax.Array, mean: jax.Array, inverse_stddev: jax.Array
) -> jax.Array:
    """Returns (images - mean) * inverse_stddev * scale + bias in float32, of the shape of `images`.

    Args:
      images: [batch, height, width, channels].
      scale: [channels].
      bias: [channels].
      mean: [groups, channels].
      inverse_stddev: [groups, channels].
    """
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
    """Propagates the gradient of the normalised values through their statistics.

    With g the gradient, s the scale, r the inverse standard deviation and E the mean over a group:

        z = (x - mean) * r
        dx = s * r * (g - E[g] - z * E[g * z])
        ds = sum(g * z),  db = sum(g)

    Args:
      images: The images x that were normalised, [batch, height, width, channels].
      scale: [channels].
      mean: float32 [groups, channels].
      inverse_stddev: float32 [groups, channels].
      gradient: Gradient by the normalised, scaled and shifted values; float32, of the shape of `images`.
      mean_gradient: Mean of `gradient` over each group, float32 [groups, channels].
      mean_product: Mean of `gradient * images` over each group, float32 [groups, channels].

    Returns:
      The gradients by `images`, in their dtype, and by the scale and the bias, float32 [channels].
    """
    # E[g z], from E[g x] and E[g].
    correlation = (mean_product - mean * mean_gradient) * inverse_stddev
    count = images.size // (len(mean) * images.shape[-1])
    offset = mean_gradient - mean * inverse_stddev * correlation
    slope = inverse_stddev * correlation
    by_images = per_image(inverse_stddev * scale, images) * (
        gradient - per_image(offset, images) - images * per_image(slope, images)
    )
    return by_images.astype(images.dtype), count * correlation.sum(axis=0), count * mean_gradient.sum(axis=0)


def group_means(values: jax.Array, groups: int) -> jax.Array:
    """Returns the means of [batch, height, width, channels] over each group of images, [groups, channels]."""
    batch, height, width, channels = values.shape
    sums = values.sum(axis=(1, 2)).reshape(groups, batch // groups, channels).sum(axis=1)
    return sums / (batch // groups * height * width)


def per_image(statistics: jax.Array, images: jax.Array) -> jax.Array:
    """Repeats [groups, channels] for the images of each group: [batch, 1, 1, channels].

    If XLA:TPU sees a per-channel broadcast, it materialises the normalised activations instead of recomputing them. The barrier
    hides the broadcast.
    """
    return opaque(jnp.repeat(statistics, len(images) // len(statistics), axis=0)[:, None, None])


def opaque(arrays: Any) -> Any:
    """Returns the arrays behind an optimisation barrier on TPUs, and unchanged elsewhere."""
    return lax.platform_dependent(arrays, tpu=lax.optimization_barrier, default=lambda arrays: arrays)
