"""Reads PyTorch's `.pth` files without PyTorch, and without running anything in them.

Such a file is a pickle and raw numbers, in a zip archive or, before PyTorch 1.6, one after the other. `tensor_pickles.py`
interprets the pickle. The layout is that of torch/serialization.py.
"""

import contextlib
import functools
import io
import pathlib
import struct
import zipfile
from collections.abc import Callable, Generator
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from pipeline.errors import DataError
from pipeline.host.printable import printable
from pipeline.weights.archives import open_archive, read_entry
from pipeline.weights.plain_files import check_regular
from pipeline.weights.stored import StoredTensor, StoredTensors
from pipeline.weights.tensor_files import COUNTER
from pipeline.weights.tensor_pickles import LARGEST_BYTES, Machine, Refused, Storage, View

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, MAGIC_NUMBER
_WRAPPERS = ("state_dict_ema", "state_dict", "model")  # where training scripts put the weights; averages first


@contextlib.contextmanager
def open_state_dict(path: pathlib.Path) -> Generator[StoredTensors]:
    """Lists the weights of a `.pth`, `.pt` or `.bin` file, which stays open inside the block.

    In a training script's file they are under "state_dict_ema", "state_dict" or "model". PyTorch's batch counters are left out.

    Raises:
      DataError: the file is damaged, names anything that is not a tensor, or is not a dictionary of tensors.
    """
    check_regular(path)
    with contextlib.ExitStack() as stack:
        try:
            if zipfile.is_zipfile(path):
                content = _open_zip(stack.enter_context(open_archive(path)), path)
            else:
                content = _open_legacy(stack.enter_context(path.open("rb")), path)
            views = _state_dict(content, path)
        except DataError:
            raise
        except Refused as error:
            raise DataError(f"{path} cannot be read as PyTorch weights: {error}") from error
        except Exception as error:  # a damaged archive can fail in any way
            reason = printable(f"{type(error).__name__}: {error}")
            raise DataError(f"{path} cannot be read as PyTorch weights: {reason}") from error
        storages = {view.storage.key: view.storage for view in views.values()}
        values = functools.cache(lambda key: _numbers(storages[key]))
        tensors = {name: _stored(view, values) for name, view in views.items() if not name.endswith(COUNTER)}
        yield StoredTensors(tensors, str(path), path.stat().st_size)


def _state_dict(content: Any, path: pathlib.Path) -> dict[str, View]:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} is not a dictionary of tensors")
    if not all(isinstance(name, str) and isinstance(item, View) for name, item in content.items()):
        raise DataError(f"{path} is not a dictionary of tensors")
    views = {name.removeprefix("module."): view for name, view in content.items()}
    if len(views) < len(content):
        raise DataError(f"{path} holds tensors twice, with and without 'module.' before their names")
    return views


def _numbers(storage: Storage) -> np.ndarray:
    assert storage.read is not None, "set for each storage of the file"
    return np.frombuffer(storage.read(), ml_dtypes.bfloat16 if storage.dtype == "bfloat16" else storage.dtype)


def _stored(view: View, values: Callable[[str], np.ndarray]) -> StoredTensor:
    def read() -> np.ndarray:
        array = values(view.storage.key)
        strides = tuple(stride * array.itemsize for stride in view.strides)
        return np.lib.stride_tricks.as_strided(array[view.offset :], view.shape, strides, writeable=False)

    return StoredTensor(view.shape, view.storage.dtype, read)


def _open_zip(archive: zipfile.ZipFile, path: pathlib.Path) -> Any:
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise DataError(f"{path} is a zip archive, but not of PyTorch: it has {len(names)} entries data.pkl")
    folder = names[0].removesuffix("data.pkl")
    machine = Machine()
    content = machine.load(io.BytesIO(read_entry(archive, names[0], LARGEST_BYTES, path)))
    for key, storage in machine.storages.items():
        entry = archive.getinfo(f"{folder}data/{key}")
        if not entry.file_size == entry.compress_size == storage.nbytes or entry.compress_type != zipfile.ZIP_STORED:
            raise DataError(
                f"{path}: storage {printable(key)} has {entry.file_size:,} bytes, not {storage.nbytes:,}, or is compressed"
            )
        storage.read = functools.partial(archive.read, entry)
    return content


def _open_legacy(file: BinaryIO, path: pathlib.Path) -> Any:
    """Reads five pickles: a number, a version, the writer's machine, the content, and the order of the storages."""
    head = io.BytesIO(file.read(LARGEST_BYTES))
    if Machine().load(head) != _LEGACY_MAGIC:
        raise DataError(f"{path} is not a PyTorch file")
    for _ in ("protocol", "system"):
        Machine().load(head)
    machine = Machine()
    content = machine.load(head)
    position, length = None, path.stat().st_size
    keys = Machine().load(head)
    position = head.tell()
    for key in keys:
        storage = machine.storages[str(key)]
        file.seek(position)
        (elements,) = struct.unpack("<q", file.read(8))
        position += 8
        if elements != storage.elements or storage.nbytes > length - position:
            raise DataError(f"{path} is cut off, or storage {printable(str(key))} has another length than its tensors")
        storage.read = functools.partial(_read_at, file, position, storage.nbytes)
        position += storage.nbytes
    if any(storage.read is None for storage in machine.storages.values()):
        raise DataError(f"{path} does not hold every storage that its tensors need")
    return content


def _read_at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)
