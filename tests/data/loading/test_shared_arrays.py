"""Memory of one process that another one sees, here both in this process, with the tests of the batches in several."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from pipeline.data.loading.shared_arrays import Address, ReceivedArrays, SharedArrays, WorkerGone

SHAPE = 64, 90, 90, 3


def filled(arrays, value, shape=SHAPE, dtype=np.uint8):
    """What is sent in place of an array of one value."""
    array = arrays.empty(shape, dtype)
    array[:] = value
    return arrays.address(array)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">i2"])
def test_the_other_side_has_the_array(dtype):
    address = pickle.loads(pickle.dumps(filled(SharedArrays(), 7, dtype=dtype)))
    received = ReceivedArrays().array(address)
    assert (received.shape, received.dtype, received.flags.c_contiguous) == (SHAPE, dtype, True)
    assert (received == 7).all()


def test_memory_is_used_again_only_when_no_view_is_left():
    arrays, received = SharedArrays(), ReceivedArrays()
    view = received.array(filled(arrays, 1))[3:, ::2]
    second = received.array(filled(arrays, 2))
    assert len(arrays._pieces) == 2
    del second
    third = filled(arrays, 3)
    assert len(arrays._pieces) == 2
    assert (view == 1).all()
    assert (received.array(third) == 3).all()
    del view
    filled(arrays, 4)
    filled(arrays, 5)
    assert len(arrays._pieces) == 2


def test_what_was_sent_and_not_received_is_not_used_again():
    arrays = SharedArrays()
    addresses = [filled(arrays, value) for value in range(4)]
    received = ReceivedArrays()
    assert [int(received.array(address).max()) for address in addresses] == [0, 1, 2, 3]


def test_small_arrays_are_sent_themselves():
    assert isinstance(filled(SharedArrays(), 1, shape=(64,)), np.ndarray)


def test_a_process_that_is_gone_is_an_error():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(WorkerGone, match=f"process {process.pid} is gone"):
        ReceivedArrays().array(Address(process.pid, 5, SHAPE, "|u1"))
