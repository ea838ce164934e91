"""The layers of a network: convolutions, squeeze-and-excitation, and the block that a `BlockSpec` describes.

Images are [batch, height, width, channels]. Kernels are [height, width, in, out], and depthwise kernels are [height, width, 1,
channels]. Parameters are float32. Layers cast them to the compute dtype where they use them. `Block` builds every kind of block
from its list of convolutions.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer
from jax import lax

from pipeline.model.layers.activations import Activation
from pipeline.model.layers.depthwise import depthwise_conv
from pipeline.model.layers.initializers import INITIALIZERS, Initializers
from pipeline.model.layers.normalization import GroupedBatchNorm
from pipeline.model.layers.pointwise import pointwise_conv
from pipeline.model.specs import BlockSpec, ConvSpec


class Conv(nn.Module):
    """A dense convolution with stride s: y[h, w, o] = sum over i, j, c of x[s * h + i, s * w + j, c] * kernel[i, j, c, o].

    Here x is the padded image.

    Attributes:
      filters: Number of output channels.
      kernel_size: Side of the square kernel, in pixels.
      strides: Stride along both spatial axes.
      use_bias: Whether to add a bias, which is initialised to zero.
      dtype: Dtype of the computation and the output.
      padding: "same" (TensorFlow's SAME) or "symmetric" ((kernel_size - 1) / 2 zeros on each side).
      kernel_init: Initialiser of the kernel.
    """

    filters: int
    kernel_size: int = 1
    strides: int = 1
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32
    padding: str = "same"
    kernel_init: Initializer = INITIALIZERS["efficientnet"].conv

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps [batch, height, width, in] to [batch, ceil(height / strides), ceil(width / strides), filters]."""
        shape = (self.kernel_size, self.kernel_size, images.shape[-1], self.filters)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        images = images.astype(self.dtype)
        if self.kernel_size == 1 and self.strides == 1:  # a matrix product
            outputs = pointwise_conv(images, kernel[0, 0])
        else:
            outputs = lax.conv_general_dilated(
                images,
                kernel,
                window_strides=(self.strides, self.strides),
                padding=spatial_padding(self.padding, self.kernel_size),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        if self.use_bias:
            outputs += self.param("bias", nn.initializers.zeros, (self.filters,)).astype(self.dtype)
        return outputs


def spatial_padding(padding: str, kernel_size: int) -> str | list[tuple[int, int]]:
    """Converts "same" or "symmetric" to the padding argument of `lax.conv_general_dilated` and `nn.max_pool`."""
    return "SAME" if padding == "same" else [((kernel_size - 1) // 2,) * 2] * 2


class DepthwiseConv(nn.Module):
    """A depthwise convolution with "same" padding: it convolves each channel with the channel's own kernel.

    Attributes:
      kernel_size: Side of the square kernel, in pixels.
      strides: Stride along both spatial axes.
      channels_per_group: See `depthwise_conv`; it changes only speed and rounding.
      dtype: Dtype of the computation and the output.
      kernel_init: Initialiser of the kernel.
    """

    kernel_size: int
    strides: int
    channels_per_group: int = 1
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = INITIALIZERS["efficientnet"].depthwise

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, ceil(height / strides), ceil(width / strides), channels]."""
        shape = (self.kernel_size, self.kernel_size, 1, images.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape)
        return depthwise_conv(
            images.astype(self.dtype), kernel.astype(self.dtype), self.strides, self.channels_per_group
        )


class SqueezeExcite(nn.Module):
    """The gate of squeeze-and-excitation (Hu et al., arXiv 1709.01507): sigmoid(W2 f(W1 m + b1) + b2).

    Here m holds the mean of each channel of an image. The caller computes m and multiplies the channels by the gate.

    Attributes:
      filters: Channels of the bottleneck, W1 m + b1.
      activation: The activation f of the bottleneck.
      dtype: Dtype of the computation and the gate.
      kernel_init: Initialiser of both kernels.
    """

    filters: int
    activation: Activation
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = INITIALIZERS["efficientnet"].conv

    @nn.compact
    def __call__(self, means: jax.Array) -> jax.Array:
        """Maps the channel means of each image, [batch, 1, 1, channels], to factors in (0, 1) of the same shape, in `dtype`."""
        options = {"use_bias": True, "dtype": self.dtype, "kernel_init": self.kernel_init}
        squeezed = Conv(self.filters, **options, name="reduce")(means)
        gate = Conv(means.shape[-1], **options, name="expand")(self.activation(squeezed))
        return nn.sigmoid(gate)


def drop_connect(images: jax.Array, survival_probability: float, rng: jax.Array) -> jax.Array:
    """Applies stochastic depth (Huang et al., arXiv 1603.09382): zeroes whole examples and divides the others.

    The divisor is the survival probability, which preserves the expected value. EfficientNet's code calls this drop connect.

    Args:
      images: [batch, height, width, channels].
      survival_probability: The probability that an example is kept, in (0, 1].
      rng: A PRNG key. The draws are float32 for every dtype of `images`, because a coarser dtype would change the rate.

    Returns:
      An array of the shape and dtype of `images`.
    """
    survives = jax.random.uniform(rng, (images.shape[0], 1, 1, 1), jnp.float32) < survival_probability
    return jnp.where(survives, images / survival_probability, 0).astype(images.dtype)


@dataclasses.dataclass(frozen=True)
class LayerOptions:
    """The options that all layers of a network share.

    Attributes:
      activation: The activation function. It follows the BatchNorm of each `activated` convolution.
      padding: See `Conv`; depthwise convolutions ignore it.
      initializers: Initialisers of the family.
      depthwise_channels_per_group: See `depthwise_conv`.
      dtype: Dtype of the computation.
    """

    activation: Activation
    padding: str = "same"
    initializers: Initializers = INITIALIZERS["efficientnet"]
    depthwise_channels_per_group: int = 1
    dtype: jnp.dtype = jnp.float32


class Block(nn.Module):
    """A block: a branch of convolutions and, if the specification has one, a skip connection.

    The skip connection adds the input, or its projection by `spec.shortcut`, to the branch.

    Attributes:
      spec: The specification of the block.
      survival_probability: Probability of keeping the branch of an example in training. Blocks without a skip connection
        ignore it.
      norm: A factory of BatchNorm layers with the keyword arguments `name`, `activation` and `scale_init`.
      options: The options that all layers share.
    """

    spec: BlockSpec
    survival_probability: float
    norm: Callable[..., GroupedBatchNorm]
    options: LayerOptions

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps [batch, height, width, spec.input_filters] to the block's output.

        Args:
          inputs: The images, in any floating-point dtype.
          train: Whether to use batch statistics and drop branches. Dropping them draws from the "dropout" PRNG.

        Returns:
          [batch, ceil(height / s), ceil(width / s), spec.output_filters], where s is `spec.strides`.
        """
        spec, x = self.spec, inputs
        for conv in spec.convs:
            last = conv is spec.convs[-1]
            x = self._conv_bn(x, conv, train, last_before_sum=last and spec.activates_sum)
        if not spec.skip:
            return x
        if train and self.survival_probability < 1:
            x = drop_connect(x, self.survival_probability, self.make_rng("dropout"))
        x = x + (inputs if spec.shortcut is None else self._conv_bn(inputs, spec.shortcut, train))
        return self.options.activation(x) if spec.activates_sum else x

    def _conv_bn(self, x: jax.Array, conv: ConvSpec, train: bool, last_before_sum: bool = False) -> jax.Array:
        """Applies a convolution and its BatchNorm, then the activation and squeeze-and-excitation if `conv` has them.

        `last_before_sum` marks the branch's last BatchNorm before an activated sum; its scale has an initialiser of its own.
        """
        options, initializers, name = self.options, self.options.initializers, f"{conv.name}_conv"
        if conv.depthwise:
            layer = DepthwiseConv(
                kernel_size=conv.kernel_size,
                strides=conv.strides,
                channels_per_group=options.depthwise_channels_per_group,
                dtype=options.dtype,
                kernel_init=initializers.depthwise,
                name=name,
            )
        else:
            layer = Conv(
                filters=conv.output_filters,
                kernel_size=conv.kernel_size,
                strides=conv.strides,
                dtype=options.dtype,
                padding=options.padding,
                kernel_init=initializers.conv,
                name=name,
            )
        x = layer(x)
        gate = None
        if conv.se_filters:
            gate = SqueezeExcite(conv.se_filters, options.activation, options.dtype, initializers.conv, name="se")
        scale_init = initializers.last_scale if last_before_sum else nn.initializers.ones
        norm = self.norm(
            activation=options.activation if conv.activated else None, scale_init=scale_init, name=f"{conv.name}_bn"
        )
        return norm(x, train, gate)
