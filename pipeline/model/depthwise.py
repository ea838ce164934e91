"""The depthwise convolution: one function, one set of values, a lowering for each platform.

XLA:CPU runs `lax.conv_general_dilated` with one group per channel 5 to 15 times slower than a sum of shifted products,
so on CPU the convolution, and both halves of its gradient, are written as such sums; everywhere else XLA's own
convolution is used. The platform is chosen when the function is lowered (`lax.platform_dependent`), so one traced
program serves several platforms. Invariant: both lowerings compute TensorFlow's SAME convolution, and their values and
gradients differ only by rounding.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv(images: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
    """Convolves each channel with its own kernel, padded SAME as in TensorFlow: the odd zero at the bottom and right.

    Args:
      images: [batch, height, width, channels].
      kernel: [size, size, 1, channels], of the same dtype.
      strides: Of both spatial axes.

    Returns:
      [batch, ceil(height / strides), ceil(width / strides), channels], of the dtype of `images`.
    """
    return lax.platform_dependent(
        images,
        kernel,
        cpu=functools.partial(_shifted_conv, strides=strides),
        default=functools.partial(grouped_conv, strides=strides),
    )


def _forward(images: jax.Array, kernel: jax.Array, strides: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise_conv(images, kernel, strides), (images, kernel)


def _backward(
    strides: int, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return lax.platform_dependent(
        *residuals,
        cotangent,
        cpu=functools.partial(_shifted_gradients, strides=strides),
        default=functools.partial(_grouped_gradients, strides=strides),
    )


depthwise_conv.defvjp(_forward, _backward)


def grouped_conv(images: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
    """The same as `depthwise_conv`, by XLA's convolution on every platform; the yardstick of tests and benchmarks."""
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(strides, strides),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=images.shape[-1],
    )


def _grouped_gradients(images: jax.Array, kernel: jax.Array, cotangent: jax.Array, strides: int):
    _, pullback = jax.vjp(functools.partial(grouped_conv, strides=strides), images, kernel)
    return pullback(cotangent)


def same_padding(size: int, kernel_size: int, strides: int) -> tuple[int, int]:
    """The zeros TensorFlow puts before and after an axis, so that it yields ceil(size / strides) values."""
    total = max(0, (math.ceil(size / strides) - 1) * strides + kernel_size - size)
    return total // 2, total - total // 2


def _pad(images: jax.Array, kernel_size: int, strides: int) -> jax.Array:
    height, width = (same_padding(size, kernel_size, strides) for size in images.shape[1:3])
    return jnp.pad(images, ((0, 0), height, width, (0, 0)))


def _window(padded: jax.Array, row: int, column: int, output_shape: tuple[int, ...], strides: int) -> jax.Array:
    """The values that kernel element (row, column) meets, in the shape of the output."""
    batch, height, width, channels = output_shape
    return lax.slice(
        padded,
        (0, row, column, 0),
        (batch, row + (height - 1) * strides + 1, column + (width - 1) * strides + 1, channels),
        (1, strides, strides, 1),
    )


def _shifted_conv(images: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
    size = kernel.shape[0]
    batch, height, width, channels = images.shape
    output_shape = (batch, math.ceil(height / strides), math.ceil(width / strides), channels)
    padded = _pad(images, size, strides)
    total = jnp.zeros(output_shape, images.dtype)
    for row in range(size):
        for column in range(size):
            total += _window(padded, row, column, output_shape, strides) * kernel[row, column, 0]
    return total


def _shifted_gradients(images: jax.Array, kernel: jax.Array, cotangent: jax.Array, strides: int):
    _, pullback = jax.vjp(functools.partial(_shifted_conv, strides=strides), images, kernel)
    return pullback(cotangent)
