"""The depthwise convolution against TensorFlow's, in values and gradients, and the lowerings against each other."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.model.depthwise import blocked_conv, depthwise_conv, grouped_conv

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


@pytest.mark.parametrize(("height", "width", "kernel", "strides"), CASES)
def test_values_and_gradients_are_tensorflows(height, width, kernel, strides):
    import tensorflow as tf

    images, weights = _random(2, height, width, 6), _random(kernel, kernel, 1, 6)
    tf_images, tf_weights = tf.constant(images), tf.constant(weights.transpose(0, 1, 3, 2))
    with tf.GradientTape() as tape:
        tape.watch([tf_images, tf_weights])
        expected = tf.nn.depthwise_conv2d(tf_images, tf_weights, [1, strides, strides, 1], "SAME")
        cotangent = _random(*expected.shape)
        loss = tf.reduce_sum(expected * cotangent)
    images_gradient, weights_gradient = tape.gradient(loss, [tf_images, tf_weights])

    actual, pullback = jax.vjp(functools.partial(depthwise_conv, strides=strides), images, weights)
    gradients = pullback(jnp.asarray(cotangent))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradients[0], images_gradient, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradients[1], weights_gradient.numpy().transpose(0, 1, 3, 2), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("height", "width", "kernel", "strides"), CASES)
@pytest.mark.parametrize("block", [2, 8])
def test_blocks_of_channels_change_no_value(height, width, kernel, strides, block):
    images, weights = _random(2, height, width, 16), _random(kernel, kernel, 1, 16)
    expected, expected_pullback = jax.vjp(functools.partial(grouped_conv, strides=strides), images, weights)
    actual, pullback = jax.vjp(functools.partial(blocked_conv, strides=strides, block=block), images, weights)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    cotangent = jnp.asarray(_random(*expected.shape))
    for gradient, expected_gradient in zip(pullback(cotangent), expected_pullback(cotangent)):
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "channels", "dtype", "groups"),
    [
        (14, 16, jnp.bfloat16, [2, 2, 16]),  # forward, gradient of the images, gradient of the kernel
        (13, 16, jnp.bfloat16, [16, 16, 16]),  # small enough to be read whole
        (14, 12, jnp.bfloat16, [12, 12, 12]),  # no multiple of a block
        (14, 16, jnp.float32, [16, 16, 16]),  # the matrix units would round it
    ],
)
def test_tpus_get_blocks_where_they_pay(size, channels, dtype, groups):
    images, weights = jnp.ones((1, size, size, channels), dtype), jnp.ones((3, 3, 1, channels), dtype)

    def values_and_gradients(images, weights):
        outputs, pullback = jax.vjp(functools.partial(depthwise_conv, strides=1, block=8), images, weights)
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
