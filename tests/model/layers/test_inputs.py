"""Normalisation against a hand computation."""

import jax.numpy as jnp
import numpy as np

from pipeline.model.layers.inputs import normalize_images


def test_published_constants_by_hand():
    images = np.array([[[[0, 128, 255]]]], np.uint8)
    mean, stddev = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    actual = normalize_images(images, mean, stddev, jnp.float32)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual[0, 0, 0], [-2.1179039, 0.2051821, 2.64], rtol=1e-6)
    assert normalize_images(images, mean, stddev, jnp.bfloat16).dtype == jnp.bfloat16
