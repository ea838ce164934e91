import numpy as np
import pytest

from tests.configs import tiny


@pytest.fixture
def config():
    return tiny.get_config()


@pytest.fixture
def batch():
    """One batch of 32 noise images of 8 pixels and 10 classes."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (32, 8, 8, 3), dtype=np.uint8),
        "label": rng.integers(0, 10, 32, dtype=np.int32),
        "weight": np.ones(32, np.float32),
        "record": np.arange(32, dtype=np.int32),
    }
