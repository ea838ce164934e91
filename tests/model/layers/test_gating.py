"""BatchNorm with squeeze-and-excitation: both ways to its gradient against TensorFlow's, and on eight devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from pipeline.model.layers.activations import swish
from pipeline.model.layers.batch_statistics import batch_norm
from pipeline.model.layers.gating import batch_norm_and_gate, channel_means, fused_backward, sequential_backward

EPSILON = 1e-3
BATCH, HEIGHT, WIDTH, CHANNELS = 16, 3, 5, 6


def _gate(kernel, means):
    """A gate that mixes the channels; sharp, so that a gradient that left it out would be far off."""
    return jax.nn.sigmoid(3 * means @ kernel)


def _bfloat16_gate(kernel, means):
    return jnp.bfloat16(_gate(kernel, means))


def _arguments():
    """Images, scale, bias, the gate's kernel and a cotangent."""
    rng = np.random.default_rng(0)
    shapes = [(BATCH, HEIGHT, WIDTH, CHANNELS), (CHANNELS,), (CHANNELS,), (CHANNELS, CHANNELS)]
    images, scale, bias, kernel = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return 1 + 2 * images, 1 + scale / 2, bias, kernel, rng.normal(size=images.shape).astype(np.float32)


def _gradients(way, groups, images, scale, bias, kernel, cotangent, dtype=jnp.float32):
    """Of the images, the scale, the bias and the gate's kernel."""
    normalized, mean, var = batch_norm(images, scale, bias, groups, EPSILON, swish, dtype)
    residuals = images, scale, bias, kernel, mean, lax.rsqrt(var + EPSILON), channel_means(normalized)
    return way(residuals, cotangent)


def _ways(groups, dtype=jnp.float32, gate=_gate):
    return {
        "fused": functools.partial(fused_backward, groups, swish, gate),
        "sequential": functools.partial(sequential_backward, groups, EPSILON, swish, dtype, gate),
    }


def _tensorflows(groups, images, scale, bias, kernel, cotangent):
    """The outputs, and the gradients by the first four arguments, in float64."""
    import tensorflow as tf

    variables = [tf.Variable(value, dtype=tf.float64) for value in (images, scale, bias, kernel)]
    with tf.GradientTape() as tape:
        x, scale, bias, kernel = variables
        x = tf.reshape(x, (groups, BATCH // groups, HEIGHT, WIDTH, CHANNELS))
        mean, var = tf.nn.moments(x, axes=(1, 2, 3), keepdims=True)
        x = tf.nn.silu(tf.nn.batch_normalization(x, mean, var, bias, scale, EPSILON))
        x = tf.reshape(x, images.shape)
        means = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
        outputs = x * tf.sigmoid(3 * tf.einsum("bhwc,cd->bhwd", means, kernel))
        loss = tf.reduce_sum(outputs * tf.constant(cotangent, tf.float64))
    return outputs.numpy(), [gradient.numpy() for gradient in tape.gradient(loss, variables)]


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2, 16])
@pytest.mark.parametrize("way", ["fused", "sequential"])
def test_values_and_gradients_are_tensorflows(way, groups):
    arguments = _arguments()
    outputs, expected = _tensorflows(groups, *arguments)
    found, _, _ = batch_norm_and_gate(*arguments[:4], groups, EPSILON, swish, jnp.float32, _gate)
    np.testing.assert_allclose(found, outputs, rtol=1e-4, atol=1e-5)
    for one, other in zip(_gradients(_ways(groups)[way], groups, *arguments), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 4])
def test_one_pass_is_as_exact_in_bfloat16_as_in_turn(groups):
    images, *rest, cotangent = _arguments()
    images, cotangent = jnp.bfloat16(images), jnp.bfloat16(cotangent)
    exact = _tensorflows(groups, np.float32(images), *rest, np.float32(cotangent))[1]
    errors = {}
    for name, way in _ways(groups, jnp.bfloat16, _bfloat16_gate).items():
        gradients = _gradients(way, groups, images, *rest, cotangent, dtype=jnp.bfloat16)
        assert gradients[0].dtype == jnp.bfloat16
        errors[name] = [float(np.abs(one - other).max()) for one, other in zip(gradients, exact, strict=True)]
    # The sums of one pass are not rounded on the way, so that only by chance an error is larger than in turn.
    assert np.all(np.array(errors["fused"]) <= 1.5 * np.array(errors["sequential"])), errors


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2, 4, 16])
def test_eight_devices_equal_one(groups):
    arguments = _arguments()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    step = functools.partial(_gradients, _ways(groups)["fused"], groups)
    alone = jax.jit(step)(*arguments)
    shardings = (split, whole, whole, whole, split)
    compiled = jax.jit(step, in_shardings=shardings).lower(*arguments).compile()
    together_on_eight = compiled(*jax.device_put(arguments, shardings))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), together_on_eight, alone)
    assert "all-gather" not in compiled.as_text()


def test_tpus_take_the_sums_together():
    images, scale, bias, kernel, cotangent = _arguments()

    def gradients(*arguments):
        _, pullback = jax.vjp(
            lambda *arguments: batch_norm_and_gate(*arguments, 1, EPSILON, swish, jnp.float32, _gate)[0], *arguments
        )
        return pullback(cotangent)

    traced = jax.jit(gradients).trace(images, scale, bias, kernel)
    whole = f"dimensions = [1, 2] : (tensor<{BATCH}x{HEIGHT}x{WIDTH}x{CHANNELS}xf32>"
    sums = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count(whole) for platform in ("tpu", "cpu")
    }
    # Forward two for BatchNorm and one for the gate. In turn these come again, for the compiler to find equal, with three more.
    assert sums == {"tpu": 3 + 5, "cpu": 3 + 3 + 3}
