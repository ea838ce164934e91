"""The 1x1 convolution against numpy, in values and gradients, for both orders of its operands."""

import jax
import numpy as np
import pytest

from pipeline.model.layers.pointwise import pointwise_conv


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 8), (8, 3)])
def test_values_and_gradients(inputs, outputs):
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=(2, 4, 5, inputs)), rng.normal(size=(inputs, outputs))
    cotangent = rng.normal(size=(2, 4, 5, outputs))
    actual, pullback = jax.vjp(pointwise_conv, *(x.astype(np.float32) for x in (images, kernel)))
    images_gradient, kernel_gradient = pullback(cotangent.astype(np.float32))
    np.testing.assert_allclose(actual, images @ kernel, atol=1e-5)
    np.testing.assert_allclose(images_gradient, cotangent @ kernel.T, atol=1e-5)
    np.testing.assert_allclose(kernel_gradient, np.einsum("bhwi,bhwo->io", images, cotangent), atol=1e-4)
