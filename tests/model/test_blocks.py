"""Initialisers, drop-connect and squeeze-and-excitation against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.model.blocks import SqueezeExcite, drop_connect
from pipeline.model.layers.initializers import conv_kernel_init, dense_kernel_init, depthwise_kernel_init


@pytest.mark.slow
@pytest.mark.parametrize(
    ("init", "shape", "expected"),
    [
        (depthwise_kernel_init, (3, 3, 1, 4096), 0.4714),  # published: sqrt(2 / 9)
        (depthwise_kernel_init, (5, 5, 1, 4096), 0.2828),  # published: sqrt(2 / 25)
        (conv_kernel_init, (3, 3, 3, 4096), (2 / (9 * 4096)) ** 0.5),
        (conv_kernel_init, (1, 1, 256, 96), (2 / 96) ** 0.5),
    ],
)
def test_kernels_are_normal_with_the_published_deviation(init, shape, expected):
    kernel = np.asarray(init(jax.random.key(0), shape))
    assert kernel.std() == pytest.approx(expected, rel=0.02)
    assert kernel.mean() == pytest.approx(0, abs=0.02 * expected)
    assert (np.abs(kernel) > 2 * expected).mean() == pytest.approx(0.0455, abs=0.006)  # not truncated


def test_the_classifier_is_uniform():
    kernel = np.asarray(dense_kernel_init(jax.random.key(0), (256, 1000)))
    assert np.abs(kernel).max() == pytest.approx(0.0316, abs=1e-4)  # 1 / sqrt(1000)
    assert kernel.std() == pytest.approx(0.0316 / 3**0.5, rel=0.01)


def test_drop_connect_drops_whole_examples_and_keeps_the_mean():
    images = jnp.ones((20_000, 2, 1, 3))
    dropped = np.asarray(drop_connect(images, 0.8, jax.random.key(0)))
    per_example = dropped.reshape(len(dropped), -1)
    assert (per_example == per_example[:, :1]).all()
    assert set(np.unique(per_example)) == {np.float32(0), np.float32(1.25)}
    assert dropped.mean() == pytest.approx(1, abs=0.01)


def test_drop_connect_draws_float32_whatever_the_images():
    # In bfloat16, uniform draws below 0.9990 would come with probability 1: there is no number between 0.996 and 1.
    images = jnp.ones((400_000, 1, 1, 1), jnp.bfloat16)
    dropped = drop_connect(images, 0.999, jax.random.key(1))
    assert dropped.dtype == jnp.bfloat16
    assert float((dropped == 0).mean(dtype=jnp.float32)) == pytest.approx(0.001, abs=0.0002)


def test_squeeze_excite_by_hand():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 3, 4, 6)).astype(np.float32)
    reduce, expand = rng.normal(size=(6, 2)), rng.normal(size=(2, 6))
    reduce_bias, expand_bias = rng.normal(size=2), rng.normal(size=6)
    variables = {
        "params": {
            "reduce": {"kernel": reduce[None, None], "bias": reduce_bias},
            "expand": {"kernel": expand[None, None], "bias": expand_bias},
        }
    }
    hidden = images.mean(axis=(1, 2)) @ reduce + reduce_bias
    hidden = hidden / (1 + np.exp(-hidden))
    gate = 1 / (1 + np.exp(-(hidden @ expand + expand_bias)))
    actual = SqueezeExcite(2, jax.nn.swish).apply(variables, images.mean(axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(actual, gate[:, None, None], rtol=1e-5, atol=1e-5)
