"""The depthwise convolution against TensorFlow's, in values and gradients, and the lowerings against each other."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.model.layers.depthwise import blocked_conv, blocked_gradients, depthwise_conv, grouped_conv

CASES = [  # height, width, kernel, strides
    (8, 8, 3, 1),
    (9, 7, 5, 1),
    (8, 10, 3, 2),
    (9, 11, 3, 2),
    (10, 7, 5, 2),
    (2, 1, 5, 2),
    (3, 2, 5, 1),
]


def _random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def _tensorflows(height, width, kernel, strides, channels):
    """Images, kernel and cotangent, and TensorFlow's (values, gradient of the images, gradient of the kernel)."""
    import tensorflow as tf

    images, weights = _random(2, height, width, channels), _random(kernel, kernel, 1, channels)
    tf_images, tf_weights = tf.constant(images), tf.constant(weights.transpose(0, 1, 3, 2))
    with tf.GradientTape() as tape:
        tape.watch([tf_images, tf_weights])
        values = tf.nn.depthwise_conv2d(tf_images, tf_weights, [1, strides, strides, 1], "SAME")
        cotangent = _random(*values.shape)
        loss = tf.reduce_sum(values * cotangent)
    images_gradient, weights_gradient = tape.gradient(loss, [tf_images, tf_weights])
    expected = values.numpy(), images_gradient.numpy(), weights_gradient.numpy().transpose(0, 1, 3, 2)
    return images, weights, jnp.asarray(cotangent), expected


def _assert_close(found, expected):
    for one, other, atol in zip(found, expected, (1e-5, 1e-5, 1e-4), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "kernel", "strides"), CASES)
def test_values_and_gradients_are_tensorflows(height, width, kernel, strides):
    images, weights, cotangent, expected = _tensorflows(height, width, kernel, strides, channels=6)
    values, pullback = jax.vjp(functools.partial(depthwise_conv, strides=strides), images, weights)
    _assert_close((values, *pullback(cotangent)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "kernel", "strides"), CASES)
@pytest.mark.parametrize("channels_per_group", [1, 2, 8])
def test_blocks_of_channels_are_tensorflows_too(height, width, kernel, strides, channels_per_group):
    images, weights, cotangent, expected = _tensorflows(height, width, kernel, strides, channels=16)
    values = blocked_conv(images, weights, strides, channels_per_group)
    _assert_close((values, *blocked_gradients(images, weights, cotangent, strides, channels_per_group)), expected)


@pytest.mark.parametrize(
    ("size", "channels", "dtype", "groups"),
    [
        (20, 16, jnp.bfloat16, [2, 2, 16]),  # forward, gradient of the images, gradient of the kernel
        (19, 16, jnp.bfloat16, [16, 16, 16]),  # small enough to be read whole
        (20, 12, jnp.bfloat16, [12, 12, 12]),  # no multiple of a block
        (20, 16, jnp.float32, [16, 16, 16]),  # the matrix units would round it
    ],
)
def test_tpus_get_blocks_where_they_pay(size, channels, dtype, groups):
    images, weights = jnp.ones((1, size, size, channels), dtype), jnp.ones((3, 3, 1, channels), dtype)

    def values_and_gradients(images, weights):
        outputs, pullback = jax.vjp(functools.partial(depthwise_conv, strides=1, channels_per_group=8), images, weights)
        return outputs, *pullback(outputs)

    program = jax.jit(values_and_gradients).trace(images, weights).lower(lowering_platforms=("tpu",)).as_text()
    # A kernel's gradient has its groups along the images' batch.
    found = re.findall(r"batch_group_count = (\d+) : i64.*?feature_group_count = (\d+)", program)
    assert sorted(max(map(int, pair)) for pair in found) == sorted(groups)


def test_other_platforms_get_the_convolution_and_cpu_the_sum():
    images, weights = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 1, 4))

    def convolutions(platform):
        def loss(images, weights):
            return depthwise_conv(images, weights, 1).sum()

        traced = jax.jit(jax.grad(loss, (0, 1))).trace(images, weights)
        return traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")

    assert convolutions("cpu") == 0
    assert convolutions("tpu") == 2


def test_bfloat16_stays_bfloat16_and_close_to_float32():
    images, weights = _random(2, 8, 8, 4), _random(3, 3, 1, 4)
    actual = depthwise_conv(jnp.bfloat16(images), jnp.bfloat16(weights), 1)
    assert actual.dtype == jnp.bfloat16
    np.testing.assert_allclose(actual.astype(jnp.float32), grouped_conv(images, weights, 1), atol=0.15)
