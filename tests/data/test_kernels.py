"""The compiled loops where the tests of the operations and of the JPEG windows do not reach."""

import numba
import numpy as np
import pytest
import tensorflow as tf

from pipeline.data import kernels

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


class TestJoinPieces:
    """A scan of three rows of two pieces, of 1 to 6 bytes, behind a header of 20 bytes whose last 12 are the index."""

    lengths = np.arange(1, 7)
    pieces = tuple(bytes([16 + length] * length) + b"\xff\xd0" for length in lengths)
    data = np.frombuffer(bytes(8) + lengths.astype(">u2").tobytes() + b"".join(pieces), np.uint8)

    def join(self, rows, columns, data=None):
        data = self.data if data is None else data
        out = np.zeros(len(self.data) - 20, np.uint8)
        return bytes(out[: kernels.join_pieces(data, 8, 20, (3, 2), rows, columns, out)])

    def test_takes_the_rectangle_and_numbers_the_markers(self):
        assert self.join((1, 3), (1, 2)) == bytes([20] * 4) + b"\xff\xd0" + bytes([22] * 6) + b"\xff\xd9"
        assert self.join((0, 1), (0, 2)) == bytes([17]) + b"\xff\xd0" + bytes([18] * 2) + b"\xff\xd9"
        assert self.join((0, 3), (0, 2))[-10:] == b"\xff\xd4" + bytes([22] * 6) + b"\xff\xd9"

    @pytest.mark.parametrize(("place", "value"), [(9, 2), (8, 255), (19, 255), (21, 0)])
    def test_gives_nothing_for_an_index_of_another_picture(self, place, value):
        wrong = self.data.copy()
        wrong[place] = value  # a length, the high byte of one, the last one, and where a marker begins
        wrong.flags.writeable = False
        assert self.join((0, 3), (0, 2), wrong) == b""


def test_compiles_where_nothing_can_be_written(monkeypatch):
    """Then each process compiles for itself."""
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])

    def next_number(number):
        return number + 1

    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(next_number, cache=True)
    assert kernels._compiled(next_number)(1) == 2
