"""Activations against their definitions, in values and gradients, also where exponentials overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.model.layers.activations import ACTIVATIONS

POINTS = np.array([-1e4, -200.0, -89.0, -45.0, -10.0, -1.0, -1e-3, 0.0, 0.5, 3.0, 6.5, 90.0, 1e4])


def test_swish_and_its_derivative():
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-POINTS))
    values, pullback = jax.vjp(ACTIVATIONS["swish"], POINTS.astype(np.float32))
    (gradient,) = pullback(jnp.full(POINTS.shape, 2.0, jnp.float32))
    np.testing.assert_allclose(values, POINTS * sigmoid, rtol=1e-5, atol=1e-15)
    np.testing.assert_allclose(gradient, 2 * sigmoid * (1 + POINTS * (1 - sigmoid)), rtol=2e-5, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gradient_is_the_slope_in_bfloat16_too(name):
    x = jnp.linspace(-8, 8, 41, dtype=jnp.bfloat16)
    gradient = jax.grad(lambda x: ACTIVATIONS[name](x).sum())(x)
    assert gradient.dtype == jnp.bfloat16
    references = {"swish": jax.nn.silu, "relu": lambda x: jnp.where(x > 0, x, 0.0), "relu6": jax.nn.relu6}
    reference = references[name]
    expected = jax.grad(lambda x: reference(x).sum())(x.astype(jnp.float32))
    np.testing.assert_allclose(gradient.astype(jnp.float32), expected, atol=0.02)
