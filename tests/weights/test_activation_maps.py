"""Class-activation maps against the sum written out by hand, and against the logits that they add up to."""

import numpy as np
import pytest

from pipeline.weights import activation_maps, map_drawing
from pipeline.weights.forward import make_forward
from tests.weights.samples import random_weights


@pytest.fixture(scope="module")
def weights():
    return random_weights("mini0", num_classes=3, image_size=24)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)


def test_the_map_of_a_small_network_by_hand():
    features = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], np.float32)  # two by two places, two features
    classifier = np.array([[1, 10], [-1, 100]], np.float32)  # two features, two classes
    found = activation_maps.Activations(features, classifier, np.zeros(2, np.float32))
    assert found.map_of(0).tolist() == [[1 - 2, 3 - 4], [5 - 6, 7 - 8]]
    assert found.map_of(1).tolist() == [[210, 430], [650, 870]]


@pytest.mark.slow
def test_the_mean_of_each_map_is_the_logit_less_the_bias(weights, image):
    found = activation_maps.make_activations(weights)(image)
    logits = make_forward(weights)(image[None])[0]
    assert found.logits == pytest.approx(logits, rel=1e-5, abs=1e-5)
    assert found.features.shape == (3, 3, 256)  # three strides of two
    for label in range(3):
        mean = found.map_of(label).mean() + weights.arrays["params/head/classifier/bias"][label]
        assert mean == pytest.approx(logits[label], rel=1e-4, abs=1e-4)
    shares = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum()
    assert found.probabilities == pytest.approx(shares, rel=1e-4)
    assert found.most_probable(2) == list(np.argsort(-logits)[:2])


def test_the_greatest_value_is_drawn_where_it_is():
    image = np.full((224, 224, 3), 100, np.uint8)
    values = np.zeros((4, 4), np.float32)
    values[0, 3] = 5.0
    drawn = map_drawing.overlay(image, values)
    assert drawn.shape == image.shape
    red = drawn[..., 0].astype(int) - drawn[..., 2]
    row, column = np.unravel_index(red.argmax(), red.shape)
    assert row < 56
    assert column >= 168
    assert red[150, 50] < 0  # blue where the map is least


def test_small_images_are_enlarged_and_even_maps_can_be_drawn():
    drawn = map_drawing.overlay(np.zeros((28, 28, 3), np.uint8), np.ones((2, 2), np.float32))
    assert drawn.shape == (224, 224, 3)
