"""Reads and writes safetensors files with NumPy alone.

A safetensors file is a table of names, dtypes and offsets, followed by raw numbers. Nothing in it can be executed. The reader
checks every offset against the file's length before it allocates memory.
"""

import contextlib
import pathlib
from collections.abc import Generator, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from pipeline.errors import DataError
from pipeline.host.printable import printable
from pipeline.weights.plain_files import check_regular
from pipeline.weights.stored import MAX_TENSORS, StoredTensor, StoredTensors

COUNTER = "num_batches_tracked"  # PyTorch's counter in every BatchNorm; unused here
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "I64": "int64", "I32": "int32"}


@contextlib.contextmanager
def open_tensors(path: pathlib.Path) -> Generator[StoredTensors]:
    """Lists the tensors of a safetensors file, which stays open inside the block; PyTorch's batch counters are left out.

    Raises:
      DataError: the file is missing or damaged.
    """
    check_regular(path)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(safetensors.safe_open(path, framework="np"))
            names = [name for name in file.keys() if not name.endswith(COUNTER)]  # noqa: SIM118 – it is no mapping
            if len(names) > MAX_TENSORS:
                raise DataError(f"{path} holds {len(names):,} tensors: no network of the family has that many")
            tensors = {name: _stored(file, name) for name in names}
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
            if isinstance(error, DataError):
                raise
            reason = printable(f"{type(error).__name__}: {error}")
            raise DataError(f"{path} cannot be read as safetensors: {reason}") from error
        yield StoredTensors(tensors, str(path), path.stat().st_size)


def write_tensors(path: pathlib.Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays and text metadata into a safetensors file with the permissions of the umask."""
    path.touch()
    mode = path.stat().st_mode
    safetensors.numpy.save_file(dict(arrays), path, metadata=dict(metadata))
    path.chmod(mode)  # the library makes the file readable only by its owner


def _stored(file: safetensors.safe_open, name: str) -> StoredTensor:
    part = file.get_slice(name)
    dtype = part.get_dtype()
    return StoredTensor(tuple(part.get_shape()), _DTYPES.get(dtype, dtype), lambda: file.get_tensor(name))
