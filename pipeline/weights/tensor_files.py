"""safetensors files, read and written with NumPy alone.

A safetensors file is a table of names, dtypes and offsets followed by raw numbers: nothing in it can be executed, and the
reader checks every offset against the file's length before memory is taken. Invariant: what is returned is float32; narrower
floats are widened, which is exact, and anything else is refused.
"""

import pathlib
from collections.abc import Mapping

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from pipeline.errors import DataError

_EXACT_IN_FLOAT32 = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all tensors of a safetensors file.

    PyTorch's counters of batches ("…num_batches_tracked") are left out: nothing here needs them.

    Raises:
      DataError: the file is missing, damaged, or holds numbers that float32 cannot.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
    except (
        safetensors.SafetensorError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        MemoryError,
    ) as error:
        raise DataError(f"{path} cannot be read as safetensors: {type(error).__name__}: {error}") from error
    return as_float32(arrays, path)


def as_float32(arrays: Mapping[str, np.ndarray], where: object) -> dict[str, np.ndarray]:
    """Widens floats to float32, leaving out PyTorch's counters.

    Raises:
      DataError: a tensor is of a type whose values float32 may not hold; the error lists them.
    """
    kept = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    wrong = [f"{name} is {array.dtype}" for name, array in kept.items() if array.dtype not in _EXACT_IN_FLOAT32]
    if wrong:
        raise DataError(f"{where}: weights are float32, float16 or bfloat16, but {'; '.join(wrong[:12])}")
    return {name: array.astype(np.float32) for name, array in kept.items()}


def write_tensors(path: pathlib.Path, arrays: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> None:
    """Writes arrays with text notes into a safetensors file."""
    safetensors.numpy.save_file(dict(arrays), path, metadata=dict(notes))
