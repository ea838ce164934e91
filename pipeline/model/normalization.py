"""BatchNorm over groups of images, with the same result on any number of devices.

Statistics are taken over groups of `bn_batch` consecutive images of the global batch, made by a reshape, so they depend
on the configuration and never on how many devices or processes share the batch. Mean and mean of squares are reduced
side by side in float32, so that XLA joins them in one all-reduce for a layer, limited to the devices that hold a group.
Variances are biased, also in the running statistics, which move towards the mean over all groups.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from pipeline.errors import ConfigError


def group_size(batch: int, bn_batch: int) -> int:
    """The number of images that share statistics: `bn_batch`, or the whole batch where that is smaller.

    Raises:
      ConfigError: If the groups do not divide the batch.
    """
    size = min(bn_batch, batch)
    if size < 1 or batch % size:
        raise ConfigError(
            f"model.bn_batch={bn_batch} does not divide the batch of {batch} images into equal groups; "
            "take a divisor of batch_size, or a bn_batch of at least batch_size for one group"
        )
    return size


class GroupedBatchNorm(nn.Module):
    """Batch normalisation with statistics over groups of images.

    Attributes:
      bn_batch: Images that share statistics in training.
      momentum: Share of the running statistics that a step keeps.
      epsilon: Added to the variance.
      dtype: Of the output; statistics, running statistics and parameters are float32.
      frozen: Whether training normalises with the running statistics too, and leaves them alone.
    """

    bn_batch: int
    momentum: float = 0.99
    epsilon: float = 1e-3
    dtype: jnp.dtype = jnp.float32
    frozen: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Normalises [batch, height, width, channels] with the statistics of groups in training, else the running ones.

        Raises:
          ConfigError: In training, if the groups do not divide the batch.
        """
        batch, height, width, channels = images.shape
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if not train or self.frozen:
            return _normalize(images, running_mean.value, running_var.value, scale, bias, self.epsilon, self.dtype)

        size = group_size(batch, self.bn_batch)
        grouped = images.reshape(batch // size, size, height, width, channels)
        mean, var = _moments(grouped)
        if not self.is_initializing():
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean.mean(axis=(0, 1, 2, 3))
            running_var.value = keep * running_var.value + (1 - keep) * var.mean(axis=(0, 1, 2, 3))
        return _normalize(grouped, mean, var, scale, bias, self.epsilon, self.dtype).reshape(images.shape)


def _moments(grouped: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance, float32 [groups, 1, 1, 1, channels], of [groups, size, height, width, channels]."""
    values = grouped.astype(jnp.float32)
    mean = values.mean(axis=(1, 2, 3), keepdims=True)
    mean_of_squares = lax.square(values).mean(axis=(1, 2, 3), keepdims=True)
    return mean, jnp.maximum(mean_of_squares - lax.square(mean), 0.0)


def _normalize(images, mean, var, scale, bias, epsilon, dtype) -> jax.Array:
    return ((images - mean) * (lax.rsqrt(var + epsilon) * scale) + bias).astype(dtype)
