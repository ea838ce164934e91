"""The layers of an EfficientNet: convolutions, squeeze-and-excitation, and the mobile inverted bottleneck block.

Kernels are laid out [height, width, in, out] and depthwise kernels [height, width, 1, channels]; parameters are float32
and are cast to the compute dtype where they are used. Padding is TensorFlow's SAME. The initialisers are the published
ones: normal, not truncated, with the fan-out of TensorFlow's depthwise layout; Flax's own `variance_scaling` would
divide it by the channels.

Source: [code] tensorflow/tpu, models/official/efficientnet/efficientnet_model.py.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from pipeline.model.activations import Activation
from pipeline.model.depthwise import depthwise_conv
from pipeline.model.normalization import GroupedBatchNorm
from pipeline.model.pointwise import pointwise_conv
from pipeline.model.specs import BlockSpec


def conv_kernel_init(rng: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Normal with standard deviation sqrt(2 / (height * width * out)) [code]."""
    height, width, _, outputs = shape
    return math.sqrt(2 / (height * width * outputs)) * jax.random.normal(rng, shape, dtype)


def depthwise_kernel_init(rng: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Normal with standard deviation sqrt(2 / (height * width)): 0.471 for 3x3, 0.283 for 5x5 [code].

    TensorFlow's kernel is [height, width, channels, 1], so that the fan-out has a factor of 1 and not of `channels`.
    """
    height, width = shape[:2]
    return math.sqrt(2 / (height * width)) * jax.random.normal(rng, shape, dtype)


def dense_kernel_init(rng: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Uniform within +-1 / sqrt(outputs) [code]."""
    limit = 1 / math.sqrt(shape[1])
    return jax.random.uniform(rng, shape, dtype, -limit, limit)


class Conv(nn.Module):
    """A dense convolution with SAME padding.

    Attributes:
      filters: Output channels.
      kernel_size: Side of the kernel.
      strides: Of both spatial axes.
      use_bias: Whether to add one; it starts at zero.
      dtype: Of the computation and the output.
    """

    filters: int
    kernel_size: int = 1
    strides: int = 1
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps [batch, height, width, in] to [batch, ceil(height / strides), ceil(width / strides), filters]."""
        shape = (self.kernel_size, self.kernel_size, images.shape[-1], self.filters)
        kernel = self.param("kernel", conv_kernel_init, shape).astype(self.dtype)
        images = images.astype(self.dtype)
        if self.kernel_size == 1 and self.strides == 1:
            outputs = pointwise_conv(images, kernel[0, 0])
        else:
            outputs = lax.conv_general_dilated(
                images,
                kernel,
                window_strides=(self.strides, self.strides),
                padding="SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        if self.use_bias:
            outputs += self.param("bias", nn.initializers.zeros, (self.filters,)).astype(self.dtype)
        return outputs


class DepthwiseConv(nn.Module):
    """A convolution of each channel with its own kernel; `block` as in `depthwise_conv`, other attributes as in `Conv`."""

    kernel_size: int
    strides: int
    block: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, ceil(height / strides), ceil(width / strides), channels]."""
        shape = (self.kernel_size, self.kernel_size, 1, images.shape[-1])
        kernel = self.param("kernel", depthwise_kernel_init, shape)
        return depthwise_conv(images.astype(self.dtype), kernel.astype(self.dtype), self.strides, self.block)


class SqueezeExcite(nn.Module):
    """The gate of squeeze-and-excitation: factors for the channels of an image, computed from their means.

    Attributes:
      filters: Channels of the bottleneck.
      activation: Inside the bottleneck; the gate is a sigmoid.
      dtype: Of the computation and the gate.
    """

    filters: int
    activation: Activation
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, means: jax.Array) -> jax.Array:
        """Maps the means over the pixels of each image, [batch, 1, 1, channels], to factors of that shape in (0, 1)."""
        squeezed = Conv(self.filters, use_bias=True, dtype=self.dtype, name="reduce")(means)
        gate = Conv(means.shape[-1], use_bias=True, dtype=self.dtype, name="expand")(self.activation(squeezed))
        return nn.sigmoid(gate)


def drop_connect(images: jax.Array, survival_probability: float, rng: jax.Array) -> jax.Array:
    """Zeroes whole examples and divides the others by the probability of surviving, so that the mean is preserved.

    Args:
      images: [batch, height, width, channels].
      survival_probability: Of an example, in (0, 1].
      rng: A key; the draws are float32, whatever the dtype of `images`, so that the rate is exact.

    Returns:
      The shape and dtype of `images`.
    """
    survives = jax.random.uniform(rng, (images.shape[0], 1, 1, 1), jnp.float32) < survival_probability
    return jnp.where(survives, images / survival_probability, 0).astype(images.dtype)


class MBConvBlock(nn.Module):
    """Expand, convolve each channel, squeeze and excite, project; add the input where the shapes allow it.

    Attributes:
      spec: The block.
      survival_probability: Of the branch, in training, where there is a skip connection.
      activation: After the expansion and after the depthwise convolution.
      norm: Makes a BatchNorm layer from its name and its activation.
      depthwise_block: See `depthwise_conv`.
      dtype: Of the computation.
    """

    spec: BlockSpec
    survival_probability: float
    activation: Activation
    norm: Callable[..., GroupedBatchNorm]
    depthwise_block: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps [batch, height, width, spec.input_filters] to [batch, ., ., spec.output_filters]."""
        spec = self.spec
        x = inputs
        if spec.expand_ratio != 1:
            x = Conv(spec.expanded_filters, dtype=self.dtype, name="expand_conv")(x)
            x = self.norm(activation=self.activation, name="expand_bn")(x, train)
        x = DepthwiseConv(
            spec.kernel_size, spec.strides, self.depthwise_block, dtype=self.dtype, name="depthwise_conv"
        )(x)
        gate = SqueezeExcite(spec.se_filters, self.activation, dtype=self.dtype, name="se") if spec.se_filters else None
        x = self.norm(activation=self.activation, name="depthwise_bn")(x, train, gate)
        x = Conv(spec.output_filters, dtype=self.dtype, name="project_conv")(x)
        x = self.norm(name="project_bn")(x, train)
        if not spec.skip:
            return x
        if train and self.survival_probability < 1:
            x = drop_connect(x, self.survival_probability, self.make_rng("dropout"))
        return x + inputs
