"""The compiled loops where the tests of the operations do not reach."""

import numba
import numpy as np
import pytest
import tensorflow as tf

from pipeline.data import compiled_loops
from pipeline.data.augmentation import kernels

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 5, 1001])
def test_histograms_count_every_pixel(pixels):
    levels = RNG.integers(0, 256, (pixels, 3), dtype=np.uint8)
    expected = [np.bincount(channel, minlength=256) for channel in levels.T]
    assert np.array_equal(kernels.histograms(levels), expected)


def test_extremes_are_those_of_each_column():
    rows = RNG.integers(100, 130, (5, 33), dtype=np.uint8)
    lowest, highest = kernels.extremes(rows)
    assert np.array_equal(lowest, np.min(rows, axis=0))
    assert np.array_equal(highest, np.max(rows, axis=0))


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.28, 1 / 3, 1.0, 1.18, 1.72, 1.9, 5.14])
def test_blends_of_all_pairs_of_levels_equal_tensorflow(factor):
    ends = np.arange(256, dtype=np.uint8)
    for start in range(256):
        first = tf.cast(start, tf.float32)
        blended = tf.clip_by_value(first + factor * (tf.cast(ends, tf.float32) - first), 0.0, 255.0)
        result = np.empty_like(ends)
        kernels.blend_with_level(ends, start, np.float32(factor), result)
        assert np.array_equal(result, tf.cast(blended, tf.uint8).numpy())


def test_compiles_where_nothing_can_be_written(monkeypatch):
    """Then each process compiles for itself."""
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])

    def next_number(number):
        return number + 1

    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(next_number, cache=True)
    assert compiled_loops.compiled(next_number)(1) == 2
