"""Files of PyTorch, written without PyTorch: the pickle is spelled out, instruction by instruction."""

import io
import pathlib
import struct
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

_KINDS = {"float32": b"FloatStorage", "int64": b"LongStorage", "float16": b"HalfStorage"}
_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch/serialization.py, MAGIC_NUMBER


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(number(value) for value in values) + b"t"


def tensor(key: str, array: np.ndarray, shape=None, strides=None, offset=0, elements=None) -> bytes:
    """A tensor that views storage `key`, which holds an array."""
    shape = array.shape if shape is None else shape
    strides = [step // array.itemsize for step in array.strides] if strides is None else strides
    kind = b"ctorch\n" + _KINDS[array.dtype.name] + b"\n"
    elements = number(array.size if elements is None else elements)
    storage = b"(" + text("storage") + kind + text(key) + text("cpu") + elements + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + storage + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + hooks + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def dictionary(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in items.items()) + b"u"


def state_dict(arrays: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, np.ndarray]]:
    """Returns a pickle of tensors, each with a storage of its own, and the storages."""
    storages = {str(index): array for index, array in enumerate(arrays.values())}
    tensors = {name: tensor(key, array) for (name, array), key in zip(arrays.items(), storages)}
    return b"\x80\x02" + dictionary(tensors) + b".", storages


def as_zip(pickle: bytes, storages: Mapping[str, np.ndarray], compression=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def as_legacy(pickle: bytes, storages: Mapping[str, np.ndarray]) -> bytes:
    keys = b"\x80\x02](" + b"".join(text(key) for key in storages) + b"e."
    raw = [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    return b"".join([_MAGIC, b"\x80\x02M\xe9\x03.", b"\x80\x02}.", pickle, keys, *raw])


def write(path: pathlib.Path, arrays: Mapping[str, np.ndarray], layout=as_zip) -> None:
    path.write_bytes(layout(*state_dict(arrays)))
