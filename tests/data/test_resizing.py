"""Resizing against TensorFlow's own kernels."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_images

from pipeline.data import resizing

SHAPES = (
    (356, 356, 600),
    (327, 327, 224),
    (300, 351, 225),
    (33, 500, 299),
    (700, 640, 456),
    (1, 1, 224),
    (225, 225, 225),
)


def random_image(height, width):
    """Half photograph, half noise: smooth and hard edges."""
    pixels = cv2.resize(load_sample_images().images[0], (width, height))
    noise = np.random.default_rng(0).integers(0, 2, (height, width, 3), dtype=np.uint8) * 255
    return np.where(np.arange(width)[None, :, None] < width // 2, pixels, noise)


def tensorflow_resize(image, size, method):
    if method == "bicubic_tf1":
        return tf.compat.v1.image.resize_bicubic(image[None], [size, size])[0].numpy()
    name, antialias = method.removesuffix("_antialias"), method.endswith("_antialias")
    return tf.image.resize(image, [size, size], name, antialias=antialias).numpy()


@pytest.mark.parametrize("method", resizing.METHODS)
@pytest.mark.parametrize(("height", "width", "size"), SHAPES)
def test_equals_tensorflow_to_rounding(height, width, size, method):
    image = random_image(height, width)
    expected = np.clip(tensorflow_resize(image, size, method), 0, 255)
    result = resizing.resize(image, size, method)
    assert result.shape == (size, size, 3)
    assert result.dtype == np.uint8
    # TensorFlow 2 rounds the positions of its bicubic to 1/1024 pixel.
    assert np.abs(result - expected).max() <= (0.75 if method == "bicubic" else 0.52)


@pytest.mark.parametrize(("height", "width", "size"), SHAPES)
def test_truncation_is_the_published_cast_to_the_bit(height, width, size):
    image = random_image(height, width)
    clipped = tf.clip_by_value(tensorflow_resize(image, size, "bicubic_tf1"), 0.0, 255.0)
    assert np.array_equal(
        resizing.resize(image, size, "bicubic_tf1", truncate=True), tf.cast(clipped, tf.uint8).numpy()
    )


@pytest.mark.parametrize("size", [224, 380, 600])
def test_centred_is_the_same_kernel_on_shifted_samples(size):
    """Where source and result have the same size nothing is shifted; elsewhere a shift by whole pixels shows the offset."""
    image = random_image(size, size)
    assert np.array_equal(resizing.resize_centred(image, size), image)
    # Three source pixels to one: the samples lie (3 - 1) / 2 = 1 pixel further right and down, on pixels.
    tripled = random_image(3 * size, 3 * size)
    assert np.array_equal(resizing.resize_centred(tripled, size), tripled[1::3, 1::3])
    assert np.array_equal(resizing.resize(tripled, size, "bicubic_tf1"), tripled[::3, ::3])


def test_centred_differs_little_from_the_published_grid_on_a_photograph():
    image = cv2.GaussianBlur(load_sample_images().images[1], (0, 0), 2)[:350, :350]
    difference = resizing.resize_centred(image, 224).astype(int) - resizing.resize(image, 224, "bicubic_tf1")
    assert np.abs(difference).mean() < 2.5
