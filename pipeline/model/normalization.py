"""BatchNorm over groups of images, with the same result on any number of devices, and the activation that follows it.

Statistics are taken over groups of `bn_batch` consecutive images of the global batch: first over the pixels of each
image, then over the images of a group. So they depend on the configuration and never on how many devices or processes
share the batch, and no array of pixels changes its shape. Mean and mean of squares are reduced side by side in float32,
and so are the two sums of the gradient, so that XLA joins each pair in one all-reduce for a layer, limited to the
devices that hold a group. Variances are biased, also in the running statistics, which move towards the mean over all
groups.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from pipeline.model.activations import Activation


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


class GroupedBatchNorm(nn.Module):
    """Batch normalisation with statistics over groups of images, and an activation.

    Attributes:
      bn_batch: Images that share statistics in training.
      momentum: Share of the running statistics that a step keeps.
      epsilon: Added to the variance.
      dtype: Of the output; statistics, running statistics and parameters are float32.
      activation: Applied to the normalised values, in float32; None for none.
      frozen: Whether training normalises with the running statistics too, and leaves them alone.
    """

    bn_batch: int
    momentum: float = 0.99
    epsilon: float = 1e-3
    dtype: jnp.dtype = jnp.float32
    activation: Activation | None = None
    frozen: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Normalises [batch, height, width, channels] with the statistics of groups in training, else the running ones.

        Raises:
          ValueError: In training, if the groups do not divide the batch.
        """
        channels = images.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        activation = self.activation or _identity
        if not train or self.frozen:
            inverse_stddev = lax.rsqrt(running_var.value + self.epsilon)
            normalized = (images - running_mean.value) * (inverse_stddev * scale) + bias
            return activation(normalized).astype(self.dtype)

        groups = images.shape[0] // group_size(images.shape[0], self.bn_batch)
        outputs, mean, var = _normalize(images, scale, bias, groups, self.epsilon, activation, self.dtype)
        if not self.is_initializing():
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean.mean(axis=0)
            running_var.value = keep * running_var.value + (1 - keep) * var.mean(axis=0)
        return outputs


def _identity(x: jax.Array) -> jax.Array:
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def _normalize(
    images: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    groups: int,
    epsilon: float,
    activation: Activation,
    dtype: jnp.dtype,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises with batch statistics; the gradient is written out so that it keeps only `images` and needs two sums.

    Returns:
      The activated output, of the shape of `images` and `dtype`; mean and biased variance, float32 [groups, channels],
      through which no gradient flows.
    """
    values = images.astype(jnp.float32)
    mean = _group_means(values, groups)
    var = jnp.maximum(_group_means(lax.square(values), groups) - lax.square(mean), 0.0)
    inverse_stddev = lax.rsqrt(var + epsilon)
    normalized = (values - _per_image(mean, images)) * _per_image(inverse_stddev * scale, images) + bias
    return activation(normalized).astype(dtype), mean, var


def _normalize_forward(images, scale, bias, groups, epsilon, activation, dtype):
    outputs, mean, var = _normalize(images, scale, bias, groups, epsilon, activation, dtype)
    return (outputs, mean, var), (images, scale, bias, mean, lax.rsqrt(var + epsilon))


def _normalize_backward(groups, epsilon, activation, dtype, residuals, cotangents):
    del epsilon, dtype
    images, scale, bias, mean, inverse_stddev = residuals
    values = images.astype(jnp.float32)
    image_mean, image_scale = _per_image(mean, images), _per_image(inverse_stddev * scale, images)
    _, pullback = jax.vjp(activation, (values - image_mean) * image_scale + bias)
    (gradient,) = pullback(cotangents[0].astype(jnp.float32))
    # Rounded as the array that two passes read: in float32 it would be twice the memory to write and to read.
    gradient = gradient.astype(images.dtype).astype(jnp.float32)

    mean_gradient = _group_means(gradient, groups)
    mean_product = _group_means(gradient * values, groups)
    # Of the gradient with the standardised values: E[g (x - mean)] / stddev.
    correlation = (mean_product - mean * mean_gradient) * inverse_stddev
    count = images.size // (groups * images.shape[-1])
    offset = mean_gradient - mean * inverse_stddev * correlation
    slope = inverse_stddev * correlation
    images_gradient = image_scale * (gradient - _per_image(offset, images) - values * _per_image(slope, images))
    return images_gradient.astype(images.dtype), count * correlation.sum(axis=0), count * mean_gradient.sum(axis=0)


_normalize.defvjp(_normalize_forward, _normalize_backward)


def _group_means(values: jax.Array, groups: int) -> jax.Array:
    """Means of [batch, height, width, channels] over each group of images: [groups, channels]."""
    batch, height, width, channels = values.shape
    sums = values.sum(axis=(1, 2)).reshape(groups, batch // groups, channels).sum(axis=1)
    return sums / (batch // groups * height * width)


def _per_image(statistics: jax.Array, images: jax.Array) -> jax.Array:
    """Spreads [groups, channels] over the images of each group: [1 or batch, 1, 1, channels]."""
    groups = statistics.shape[0]
    if groups > 1:
        statistics = jnp.repeat(statistics, images.shape[0] // groups, axis=0)
    return statistics[:, None, None]
