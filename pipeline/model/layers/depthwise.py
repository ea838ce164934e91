"""The depthwise convolution: one function with a lowering for each platform.

On CPU, XLA's `lax.conv_general_dilated` with one group per channel is 5 to 15 times slower than a sum of shifted products. So
on CPU the convolution and both halves of its gradient are written as such sums. Other platforms use XLA's convolution. The
platform is chosen at lowering (`lax.platform_dependent`), so one traced program serves several platforms.

XLA:TPU computes one group per channel on the vector units, in windows so small that it mostly reads their margins. With
`channels_per_group` channels in a group, and kernels that are zero for the other channels, the matrix units do the same work
in the time of the memory traffic, if the images of a device fill the 128 lanes. Products with zeros are exact, so the sums
are the same.

All lowerings compute TensorFlow's SAME convolution. Their values and gradients differ only by rounding.
"""

import functools
import math
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

SMALLEST_BLOCKED_MAP = 20  # pixels a side; XLA:TPU reads smaller maps whole, or would change their layout for groups


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_conv(images: jax.Array, kernel: jax.Array, strides: int, channels_per_group: int = 1) -> jax.Array:
    """Convolves each channel with its own kernel: y[h, w, c] = sum over i, j of x[s * h + i, s * w + j, c] * k[i, j, 0, c].

    s is the stride, and x is padded SAME as in TensorFlow: an odd zero goes to the bottom and right.

    Args:
      images: [batch, height, width, channels].
      kernel: [size, size, 1, channels], of the same dtype.
      strides: Stride of both spatial axes.
      channels_per_group: Number of channels in a group on TPUs; 1: XLA's own depthwise convolution.

    Returns:
      [batch, ceil(height / strides), ceil(width / strides), channels], of the dtype of `images`.
    """
    return lax.platform_dependent(
        images,
        kernel,
        cpu=functools.partial(_shifted_conv, strides=strides),
        tpu=functools.partial(blocked_conv, strides=strides, channels_per_group=_usable(channels_per_group, images)),
        default=functools.partial(grouped_conv, strides=strides),
    )


def _forward(
    images: jax.Array, kernel: jax.Array, strides: int, channels_per_group: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise_conv(images, kernel, strides, channels_per_group), (images, kernel)


def _backward(
    strides: int, channels_per_group: int, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return lax.platform_dependent(
        *residuals,
        cotangent,
        cpu=functools.partial(_shifted_gradients, strides=strides),
        tpu=functools.partial(
            blocked_gradients, strides=strides, channels_per_group=_usable(channels_per_group, residuals[0])
        ),
        default=functools.partial(_grouped_gradients, strides=strides),
    )


def _usable(channels_per_group: int, images: jax.Array) -> int:
    """The argument, or 1 if groups do not divide the channels, gain nothing, or would round float32 on the matrix units."""
    divides = images.shape[-1] % channels_per_group == 0
    return (
        channels_per_group
        if divides and images.shape[1] >= SMALLEST_BLOCKED_MAP and images.dtype == jnp.bfloat16
        else 1
    )


depthwise_conv.defvjp(_forward, _backward)


def grouped_conv(images: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
    """`depthwise_conv` by XLA's convolution on every platform; the reference of tests and benchmarks."""
    return blocked_conv(images, kernel, strides, channels_per_group=1)


def blocked_conv(images: jax.Array, kernel: jax.Array, strides: int, channels_per_group: int) -> jax.Array:
    """`depthwise_conv` with several channels in a group; each kernel is zero for the group's other channels."""
    channels = images.shape[-1]
    own = jnp.arange(channels_per_group)[:, None] == jnp.arange(channels) % channels_per_group
    return lax.conv_general_dilated(
        images,
        jnp.where(own, kernel, 0),
        window_strides=(strides, strides),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels // channels_per_group,
    )


def _grouped_gradients(images: jax.Array, kernel: jax.Array, cotangent: jax.Array, strides: int):
    _, pullback = jax.vjp(functools.partial(grouped_conv, strides=strides), images, kernel)
    return pullback(cotangent)


def blocked_gradients(
    images: jax.Array, kernel: jax.Array, cotangent: jax.Array, strides: int, channels_per_group: int
):
    """Returns the gradients of `blocked_conv` by images and kernel.

    The kernel's gradient is XLA's own. With groups it would take `channels_per_group` times as many sums, of which only one
    counts.
    """
    _, pullback = jax.vjp(
        functools.partial(blocked_conv, kernel=kernel, strides=strides, channels_per_group=channels_per_group), images
    )
    return *pullback(cotangent), _grouped_gradients(images, kernel, cotangent, strides)[1]


def same_padding(size: int, kernel_size: int, strides: int) -> tuple[int, int]:
    """Returns the zeros before and after an axis in TensorFlow's SAME padding, which yields ceil(size / strides) values."""
    total = max(0, (math.ceil(size / strides) - 1) * strides + kernel_size - size)
    return total // 2, total - total // 2


def _shifted_conv(images: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
    size = kernel.shape[0]
    height, width = (math.ceil(extent / strides) for extent in images.shape[1:3])
    padded = _pad(images, *(same_padding(extent, size, strides) for extent in images.shape[1:3]))
    return _sum_of_products(_windows(padded, height, width, size, strides), kernel)


def _sum_of_products(windows: list[list[jax.Array]], kernel: jax.Array) -> jax.Array:
    products = (window * kernel[i, j, 0] for i, row in enumerate(windows) for j, window in enumerate(row))
    return cast(jax.Array, sum(products))  # the type of `sum` has the 0 that no products would give


def _pad(images: jax.Array, rows: tuple[int, int], columns: tuple[int, int]) -> jax.Array:
    return jnp.pad(images, ((0, 0), rows, columns, (0, 0)))


def _windows(padded: jax.Array, height: int, width: int, size: int, strides: int) -> list[list[jax.Array]]:
    """Yields for each element (i, j) of a kernel the values it multiplies: [batch, height, width, channels]."""
    rows, columns = ((extent - 1) * strides + 1 for extent in (height, width))
    return [[padded[:, i : i + rows : strides, j : j + columns : strides] for j in range(size)] for i in range(size)]


def _shifted_gradients(images: jax.Array, kernel: jax.Array, cotangent: jax.Array, strides: int):
    return _images_gradient(images, kernel, cotangent, strides), _kernel_gradient(images, kernel, cotangent, strides)


def _images_gradient(images: jax.Array, kernel: jax.Array, cotangent: jax.Array, strides: int) -> jax.Array:
    """Returns the gradient by the images, as sums of shifted products with the flipped kernel.

    Pixels of the padded input that are congruent modulo the stride meet the same kernel elements. Each such phase is a stride-1
    convolution of the cotangent, and the phases are interleaved.
    """
    size = kernel.shape[0]
    batch, height, width, channels = images.shape
    (top, bottom), (left, right) = (same_padding(extent, size, strides) for extent in (height, width))
    phase_height, phase_width = (
        math.ceil(extent / strides) for extent in (top + height + bottom, left + width + right)
    )
    phases = [
        [
            _phase_gradient(kernel[row::strides, column::strides], cotangent, phase_height, phase_width)
            for column in range(strides)
        ]
        for row in range(strides)
    ]
    padded = phases[0][0]
    if strides > 1:
        rows = [jnp.stack(columns, axis=3) for columns in phases]  # [batch, height, width, strides, channels]
        padded = jnp.stack(rows, axis=2).reshape(batch, phase_height * strides, phase_width * strides, channels)
    return padded[:, top : top + height, left : left + width]


def _phase_gradient(kernel: jax.Array, cotangent: jax.Array, height: int, width: int) -> jax.Array:
    """Returns the full correlation of the cotangent with a part of the kernel: [batch, height, width, channels]."""
    rows, columns = kernel.shape[:2]
    padded = _pad(
        cotangent,
        (rows - 1, height - cotangent.shape[1]),
        (columns - 1, width - cotangent.shape[2]),
    )
    flipped = kernel[::-1, ::-1, 0]
    products = (padded[:, i : i + height, j : j + width] * flipped[i, j] for i in range(rows) for j in range(columns))
    return cast(jax.Array, sum(products))  # as in `_sum_of_products`


def _kernel_gradient(images: jax.Array, kernel: jax.Array, cotangent: jax.Array, strides: int) -> jax.Array:
    """Returns the gradient by the kernel, accumulated row by row of the output.

    XLA:CPU reduces over all but the last axis with a stride and without vector instructions. This loop adds one row of
    products to an accumulator for each kernel element, so it reads memory in order and from the cache.
    """
    size = kernel.shape[0]
    batch, height, width, channels = cotangent.shape
    row_length = width * channels
    padded = _pad(images, *(same_padding(extent, size, strides) for extent in images.shape[1:3]))
    # Columns that meet the same kernel elements lie side by side, so a window is a contiguous part of a row.
    phases = [padded[:, :, phase::strides] for phase in range(strides)]
    phases = [phase.reshape(batch, padded.shape[1], -1) for phase in phases]
    rows_of_cotangent = cotangent.reshape(batch * height, row_length)

    def add_row(index, sums):
        image, row = index // height, index % height * strides
        products = []
        for i in range(size):
            inputs = [lax.dynamic_slice(phase, (image, row + i, 0), (1, 1, phase.shape[2]))[0, 0] for phase in phases]
            for j in range(size):
                start = j // strides * channels
                window = inputs[j % strides][start : start + row_length]
                products.append(window * rows_of_cotangent[index])
        return tuple(total + product for total, product in zip(sums, products, strict=True))

    zeros = tuple(jnp.zeros(row_length, cotangent.dtype) for _ in range(size * size))
    sums = jnp.stack(lax.fori_loop(0, batch * height, add_row, zeros))
    return sums.reshape(size, size, width, channels).sum(axis=2)[:, :, None]
