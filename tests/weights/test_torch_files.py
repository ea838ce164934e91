"""Files are made here with `pickle` and the names that PyTorch writes; `test_interop.py` reads what PyTorch itself saves."""

import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.weights.torch_files import open_state_dict


def read_state_dict(path):
    with open_state_dict(path) as tensors:
        return {name: tensor.read() for name, tensor in tensors.items()}


class Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


class Rebuilt:
    """Pickles as a call of a function of PyTorch."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.fixture
def torch_names(monkeypatch):
    """Lets `pickle` refer to PyTorch's names without PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for module, name in ((torch, "FloatStorage"), (torch, "LongStorage"), (utils, "_rebuild_tensor_v2")):
        function = types.FunctionType((lambda: None).__code__, {}, name)
        function.__module__, function.__qualname__ = module.__name__, name
        setattr(module, name, function)
    torch._utils = utils
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


def tensor(torch, key, array, shape=None, strides=None, offset=0):
    strides = tuple(step // array.itemsize for step in array.strides) if strides is None else strides
    storage = Storage(key, array)
    arguments = (storage, offset, array.shape if shape is None else shape, strides, False, collections.OrderedDict())
    return Rebuilt(torch._utils._rebuild_tensor_v2, *arguments)


def pickled(torch, content):
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, Storage):
                return None
            storages[item.key] = item.array
            kind = torch.FloatStorage if item.array.dtype == np.float32 else torch.LongStorage
            return ("storage", kind, item.key, "cpu", item.array.size)

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(content)
    return buffer.getvalue(), storages


def save_zip(path, torch, content, compression=zipfile.ZIP_STORED):
    data, storages = pickled(torch, content)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())


def save_legacy(path, torch, content, cut=0, lacks=()):
    data, storages = pickled(torch, content)
    storages = {key: array for key, array in storages.items() if key not in lacks}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [data, pickle.dumps(list(storages), 2)]
    parts += [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    path.write_bytes(b"".join(parts)[: -cut or None])


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_both_layouts_are_read(tmp_path, torch_names, save):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    content = collections.OrderedDict(
        {
            "module.conv.weight": tensor(torch_names, "0", array),
            "conv.transposed": tensor(torch_names, "0", array, shape=(4, 3), strides=(1, 4), offset=12),
            "bn.num_batches_tracked": tensor(torch_names, "1", np.array(5)),
        }
    )
    save(tmp_path / "w.pth", torch_names, content)
    found = read_state_dict(tmp_path / "w.pth")
    assert list(found) == ["conv.weight", "conv.transposed"]
    assert np.array_equal(found["conv.weight"], array)
    assert np.array_equal(found["conv.transposed"], array[1].T)


def test_averages_of_a_training_script_come_first(tmp_path, torch_names):
    one, two = np.ones(2, np.float32), np.full(2, 2, np.float32)
    content = {
        "epoch": 3,
        "state_dict": {"w": tensor(torch_names, "0", one)},
        "state_dict_ema": {"w": tensor(torch_names, "1", two)},
    }
    save_zip(tmp_path / "w.pth", torch_names, content)
    assert np.array_equal(read_state_dict(tmp_path / "w.pth")["w"], two)


@pytest.mark.parametrize("as_zip", [True, False])
def test_nothing_is_executed(tmp_path, as_zip):
    bomb = pickle.dumps(Rebuilt(os.system, f"touch {tmp_path}/executed"), 2)
    if as_zip:
        with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
            archive.writestr("archive/data.pkl", bomb)
    else:
        (tmp_path / "w.pth").write_bytes(bomb)
    with pytest.raises(DataError, match=r"w\.pth.*(system).*refused"):
        read_state_dict(tmp_path / "w.pth")
    assert not (tmp_path / "executed").exists()
    pickle.loads(bomb)  # the bomb is a live one
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((1 << 40,), (0,), 0), ((7,), (1,), 0), ((3,), (1,), 4), ((2,), (-1,), 3), ((2, 2), (1,), 0)],
)
def test_tensors_beyond_their_storage_are_refused(tmp_path, torch_names, shape, strides, offset):
    content = {"w": tensor(torch_names, "0", np.arange(6, dtype=np.float32), shape, strides, offset)}
    save_zip(tmp_path / "w.pth", torch_names, content)
    with pytest.raises(DataError, match=r"w\.pth"):
        read_state_dict(tmp_path / "w.pth")


def test_other_damage(tmp_path, torch_names):
    content = {"w": tensor(torch_names, "0", np.arange(600, dtype=np.float32))}
    save_legacy(tmp_path / "cut.pth", torch_names, content, cut=50)
    save_legacy(tmp_path / "lacking.pth", torch_names, content, lacks="0")
    save_zip(tmp_path / "bomb.pth", torch_names, content, zipfile.ZIP_DEFLATED)
    save_zip(tmp_path / "number.pth", torch_names, {"w": 3})
    (tmp_path / "text.pth").write_text("no weights")
    for name, expected in {
        "cut.pth": "cut off",
        "lacking.pth": "does not hold every storage",
        "bomb.pth": "compressed",
        "number.pth": "not a dictionary of tensors",
        "text.pth": "cannot be read",
    }.items():
        with pytest.raises(DataError, match=expected):
            read_state_dict(tmp_path / name)
