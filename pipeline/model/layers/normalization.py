"""The BatchNorm layer: its parameters and running statistics, and the activation and the gate that follow it.

Statistics are taken over groups of `bn_batch` consecutive images of the global batch. They depend on the configuration, and
not on how many devices or processes share the batch. Variances are biased, also in the running statistics, which move towards
the mean over all groups. `batch_statistics.py` computes the statistics, and `gating.py` combines them with a gate.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer
from jax import lax

from pipeline.model.layers.activations import Activation
from pipeline.model.layers.batch_statistics import batch_norm, group_size
from pipeline.model.layers.gating import batch_norm_and_gate, channel_means


class GroupedBatchNorm(nn.Module):
    """Batch normalisation with the statistics of groups of images, and an activation f.

    In training, with mean and var over a group:  y = f((x - mean) / sqrt(var + epsilon) * scale + bias), and for both
    statistics running = momentum * running + (1 - momentum) * (mean over the groups). In evaluation, mean and var are the
    running ones.

    Attributes:
      bn_batch: Number of images that share statistics in training.
      momentum: Share of the running statistics that a step keeps.
      epsilon: Added to the variance.
      dtype: Dtype of the output; statistics and parameters are float32.
      activation: Applied to the normalised values, in float32; None: no activation.
      frozen: Whether training uses the running statistics and leaves them unchanged.
      scale_init: Initialiser of the scale.
    """

    bn_batch: int
    momentum: float = 0.99
    epsilon: float = 1e-3
    dtype: jnp.dtype = jnp.float32
    activation: Activation | None = None
    frozen: bool = False
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, gate: nn.Module | None = None) -> jax.Array:
        """Normalises images: with the statistics of groups in training, else with the running statistics.

        Args:
          images: [batch, height, width, channels].
          train: Whether to use the statistics of groups and to update the running ones.
          gate: Maps float32 means of each image's activated channels, [batch, 1, 1, channels], to factors of that shape, by
            which the output is multiplied; None: no gate.

        Returns:
          An array of the shape of `images` and `dtype`.

        Raises:
          ValueError: In training, if the groups do not divide the batch.
        """
        channels = images.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        activation = self.activation or _identity
        if not train or self.frozen:
            inverse_stddev = lax.rsqrt(running_var.value + self.epsilon)
            normalized = (images - running_mean.value) * (inverse_stddev * scale) + bias
            return _gated(activation(normalized).astype(self.dtype), gate)

        groups = images.shape[0] // group_size(images.shape[0], self.bn_batch)
        options = (groups, self.epsilon, activation, self.dtype)
        if gate is None or self.is_initializing():
            outputs, mean, var = batch_norm(images, scale, bias, *options)
            outputs = _gated(outputs, gate)
        else:
            module, variables = gate.unbind()
            outputs, mean, var = batch_norm_and_gate(images, scale, bias, variables, *options, module.apply)
        if not self.is_initializing():
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean.mean(axis=0)
            running_var.value = keep * running_var.value + (1 - keep) * var.mean(axis=0)
        return outputs


def _identity(x: jax.Array) -> jax.Array:
    return x


def _gated(images: jax.Array, gate: nn.Module | None) -> jax.Array:
    return images if gate is None else images * gate(channel_means(images))
