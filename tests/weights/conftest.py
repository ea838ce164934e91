import pytest

from pipeline.weights.photographs import PHOTOGRAPHS, photographs, prepare
from tests.weights.samples import random_weights


@pytest.fixture(scope="session")
def weights():
    """A network of three blocks for 32 pixels and 10 classes, with names."""
    return random_weights(class_names=tuple("abcdefghij"), kind="ema", step=7)


@pytest.fixture(scope="session")
def b0():
    """B0 for 10 classes and 64 pixels."""
    return random_weights("b0", image_size=64)


@pytest.fixture
def images(weights):
    """Two photographs as the small network sees them, uint8 `[2, 32, 32, 3]`."""
    return prepare(photographs(), weights.metadata, PHOTOGRAPHS)
