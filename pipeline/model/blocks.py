"""The layers of a network: convolutions, squeeze-and-excitation, and the block that a `BlockSpec` describes.

Kernels are [height, width, in, out] and depthwise kernels [height, width, 1, channels]. Parameters are float32 and are cast
to the compute dtype where they are used. One module builds every kind of block from its list of convolutions.
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
    """A dense convolution: y[h, w, o] = sum over i, j, c of x[s * h + i, s * w + j, c] * kernel[i, j, c, o], with stride s.

    Attributes:
      filters: Number of output channels.
      kernel_size: Side of the kernel.
      strides: Stride of both spatial axes.
      use_bias: Whether to add a bias; it starts at zero.
      dtype: Dtype of the computation and the output.
      padding: "same" (TensorFlow's) or "symmetric" ((kernel_size - 1) / 2 zeros on each side).
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
        if self.kernel_size == 1 and self.strides == 1:
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
    """Returns "same" or "symmetric" padding in the form of `lax` and `nn.max_pool`."""
    return "SAME" if padding == "same" else [((kernel_size - 1) // 2,) * 2] * 2


class DepthwiseConv(nn.Module):
    """Convolves each channel with its own kernel. Attributes as in `Conv`, and `channels_per_group` as in `depthwise_conv`."""

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
    """The gate of squeeze-and-excitation: sigmoid(W2 f(W1 m + b1) + b2), from the means m of an image's channels.

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
        """Maps the means of each image's channels, [batch, 1, 1, channels], to factors of that shape in (0, 1)."""
        options = {"use_bias": True, "dtype": self.dtype, "kernel_init": self.kernel_init}
        squeezed = Conv(self.filters, **options, name="reduce")(means)
        gate = Conv(means.shape[-1], **options, name="expand")(self.activation(squeezed))
        return nn.sigmoid(gate)


def drop_connect(images: jax.Array, survival_probability: float, rng: jax.Array) -> jax.Array:
    """Zeroes whole examples and divides the others by the survival probability, which preserves the mean.

    Args:
      images: [batch, height, width, channels].
      survival_probability: The probability that an example is kept, in (0, 1].
      rng: A key. The draws are float32 whatever the dtype of `images`, so the rate is exact.

    Returns:
      An array of the shape and dtype of `images`.
    """
    survives = jax.random.uniform(rng, (images.shape[0], 1, 1, 1), jnp.float32) < survival_probability
    return jnp.where(survives, images / survival_probability, 0).astype(images.dtype)


@dataclasses.dataclass(frozen=True)
class LayerOptions:
    """The options that all layers of a network share.

    Attributes:
      activation: Follows a BatchNorm if the `ConvSpec` says so.
      padding: See `Conv`.
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
    """A block: a branch of convolutions and, if the specification has a skip connection, the input or its projection added.

    Attributes:
      spec: The specification of the block.
      survival_probability: Probability of keeping the branch in training, if there is a skip connection.
      norm: Makes a BatchNorm layer from its name, its activation and its initialiser.
      options: The options of the layers.
    """

    spec: BlockSpec
    survival_probability: float
    norm: Callable[..., GroupedBatchNorm]
    options: LayerOptions

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps [batch, height, width, spec.input_filters] to [batch, ., ., spec.output_filters]."""
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
        """Convolves, normalises, activates and gates."""
        options, initializers, name = self.options, self.options.initializers, f"{conv.name}_conv"
        if conv.depthwise:
            layer = DepthwiseConv(
                *(
                    conv.kernel_size,
                    conv.strides,
                    options.depthwise_channels_per_group,
                    options.dtype,
                    initializers.depthwise,
                ),
                name=name,
            )
        else:
            layer = Conv(
                *(conv.output_filters, conv.kernel_size, conv.strides, False, options.dtype),
                *(options.padding, initializers.conv),
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
