"""PyTorch's `.pth` files, read without PyTorch and without running anything that the file says.

Such a file is a pickle beside raw numbers, in a zip archive or (before PyTorch 1.6) one after the other. The unpickler here
knows ordered dictionaries, tensors and their storages, and refuses every other name, so a file cannot call code. Layout as in
torch/serialization.py.
"""

import collections
import dataclasses
import io
import pathlib
import pickle
import struct
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from pipeline.errors import DataError
from pipeline.weights.tensor_files import as_float32

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, MAGIC_NUMBER
_DTYPES = {
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "DoubleStorage": np.float64,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_WRAPPERS = ("state_dict_ema", "state_dict", "model")  # where training scripts put the weights; averages first


@dataclasses.dataclass
class _Storage:
    """Numbers that tensors view: `elements` of a type, filled in when the file's raw part is read."""

    dtype: np.dtype
    elements: int
    values: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class _View:
    """A tensor as the pickle has it: a window of a storage; offset, shape and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """Returns the numbers; raises `ValueError` when the window leaves its storage."""
        if any(not isinstance(value, int) or value < 0 for value in (self.offset, *self.shape, *self.strides)):
            raise ValueError("a tensor's offset, shape or strides are no counts")
        if len(self.shape) != len(self.strides):
            raise ValueError("a tensor has not one stride for each axis")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        if 0 not in self.shape and last >= self.storage.values.size:
            raise ValueError(
                f"a tensor of shape {self.shape} leaves its storage of {self.storage.values.size} elements"
            )
        if np.prod(self.shape, dtype=object) > self.storage.values.size:
            raise ValueError(f"a tensor of shape {self.shape} views {self.storage.values.size} elements")
        itemsize = self.storage.dtype.itemsize
        strides = tuple(stride * itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(self.storage.values[self.offset :], self.shape, strides).copy()


def read_state_dict(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the weights of a `.pth`, `.pt` or `.bin` file.

    Returns:
      Arrays by name; of a training script's file those under "state_dict_ema", "state_dict" or "model".

    Raises:
      DataError: the file is damaged, names anything that is not a tensor, or is no dictionary of tensors.
    """
    try:
        content = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        for wrapper in _WRAPPERS:
            if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
                content = content[wrapper]
                break
        if (
            not isinstance(content, dict)
            or not content
            or not all(isinstance(item, _View) for item in content.values())
        ):
            raise DataError(f"{path} is no dictionary of tensors")
        arrays = {str(name): view.array() for name, view in content.items()}
    except DataError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise DataError(f"{path} cannot be read as PyTorch weights: {type(error).__name__}: {error}") from error
    return as_float32({name.removeprefix("module."): array for name, array in arrays.items()}, path)


class _TensorsOnly(pickle.Unpickler):
    """Makes views of storages, and nothing else."""

    def __init__(self, file):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda view, requires_grad, hooks: view
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no tensor: refused")

    def persistent_load(self, pid: Any) -> _Storage:
        tag, dtype, key, _, elements, *view = pid
        if tag != "storage" or not isinstance(dtype, np.dtype) or any(part is not None for part in view):
            raise pickle.UnpicklingError("it refers to something that is no storage of numbers: refused")
        return self.storages.setdefault(str(key), _Storage(dtype, elements))


def _rebuild_tensor(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_) -> _View:
    return _View(storage, offset, tuple(shape), tuple(strides))


def _read_zip(path: pathlib.Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise DataError(f"{path} is a zip archive, but not of PyTorch: it has {len(names)} entries data.pkl")
        folder = names[0].removesuffix("data.pkl")
        unpickler = _TensorsOnly(io.BytesIO(archive.read(names[0])))
        content = unpickler.load()
        for key, storage in unpickler.storages.items():
            entry, expected = archive.getinfo(f"{folder}data/{key}"), storage.elements * storage.dtype.itemsize
            if entry.file_size != expected or entry.compress_type != zipfile.ZIP_STORED:
                raise DataError(f"{path}: storage {key} has {entry.file_size} bytes, not {expected}, or is compressed")
            storage.values = np.frombuffer(archive.read(f"{folder}data/{key}"), storage.dtype)
    return content


def _read_legacy(path: pathlib.Path) -> Any:
    with path.open("rb") as file:
        if _TensorsOnly(file).load() != _LEGACY_MAGIC:
            raise DataError(f"{path} is no PyTorch file")
        for _ in ("protocol", "system"):
            _TensorsOnly(file).load()
        unpickler = _TensorsOnly(file)
        content = unpickler.load()
        for key in _TensorsOnly(file).load():
            storage = unpickler.storages[str(key)]
            (elements,) = struct.unpack("<q", file.read(8))
            size = storage.elements * storage.dtype.itemsize
            if elements != storage.elements or not 0 <= size <= path.stat().st_size - file.tell():
                raise DataError(f"{path} is cut off, or storage {key} has another length than its tensors")
            storage.values = np.frombuffer(file.read(size), storage.dtype)
    return content
