"""Memory that is used again, and never while somebody can see it."""

import gc
import pickle

import numpy as np
import pytest

from pipeline.data.loading.recycling import RecycledArrays

SHAPE = 64, 8, 8, 3


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_when_the_array_is_gone():
    arrays = RecycledArrays()
    first = arrays.empty(SHAPE, np.uint8)
    assert (first.shape, first.dtype, first.flags.c_contiguous, first.flags.writeable) == (SHAPE, np.uint8, True, True)
    place = address(first)
    del first
    gc.collect()
    assert address(arrays.empty(SHAPE, np.uint8)) == place


@pytest.mark.slow
def test_memory_stays_while_anything_looks_at_it():
    arrays = RecycledArrays()
    views = [
        lambda array: array[3:5, :, 2],
        lambda array: array.reshape(64, -1).view(np.uint64)[1:],
        lambda array: memoryview(array)[7:9],
        lambda array: np.asarray(array).T.transpose(1, 0, 2, 3),
    ]
    for view in views:
        array = arrays.empty(SHAPE, np.uint8)
        array[:] = 7
        kept = view(array)
        del array
        gc.collect()
        others = [arrays.empty(SHAPE, np.uint8) for _ in range(3)]
        for other in others:
            other[:] = 1
        assert set(bytes(np.ascontiguousarray(kept))) == {7}


def test_shapes_and_types_have_memory_of_their_own():
    arrays = RecycledArrays()
    for shape, dtype in ((SHAPE, np.uint8), (SHAPE, np.float32), ((2, 3), np.uint8), ((5,), np.int64)):
        for _ in range(3):
            array = arrays.empty(shape, dtype)
            assert (array.shape, array.dtype) == (shape, dtype)
            array[...] = 1
            del array


def test_pickles_without_memory():
    arrays = RecycledArrays()
    arrays.empty((1 << 20,), np.uint8)
    assert len(pickle.dumps(arrays)) < 200
    assert pickle.loads(pickle.dumps(arrays)).empty((2,), np.float32).shape == (2,)
