"""Weight files made from good ones by mutation of header, sizes, offsets, JSON, pickle and HDF5 structure.

A case is a pure function of its base and its number: one that failed can be made again.
"""

import dataclasses
import io
import json
import pathlib
import random
import re
import struct
import zipfile
from collections.abc import Callable

import h5py
import numpy as np

NUMBERS = (0, -1, 1, 7, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1, 10**30, 0.5, 1e300, 1e-300)
ODD = (
    *NUMBERS,
    None,
    True,
    "",
    "224",
    "\x1b[31m",
    "\ud800",
    [],
    [3, "224"],
    [[3]],
    {},
    {"a": 1},
    float("nan"),
    float("inf"),
)
Mutation = Callable[[bytes, random.Random], bytes]


@dataclasses.dataclass(frozen=True)
class Base:
    """A good file or folder, and what is changed of it.

    Attributes:
      path: What is opened.
      changed: The file of it that is changed; the others are linked.
      mutations: Any of these is applied.
    """

    path: pathlib.Path
    changed: pathlib.Path
    mutations: tuple[Mutation, ...]


def make(base: Base, seed: int, folder: pathlib.Path) -> pathlib.Path:
    """Writes case `seed` into an empty folder and returns what is to be opened."""
    rng = random.Random(f"{base.changed.name} {seed}")
    content = base.changed.read_bytes()
    content = rng.choice(base.mutations)(content, rng)
    if base.path.is_file():
        (folder / base.changed.name).write_bytes(content)
        return folder / base.changed.name
    for path in base.path.iterdir():
        if path == base.changed:
            (folder / path.name).write_bytes(content)
        else:
            (folder / path.name).hardlink_to(path)
    return folder


def in_bytes(*marks: bytes, reach: int = 400) -> Mutation:
    """Changes bytes, near marks of the structure where there are any, else anywhere."""

    def mutate(content: bytes, rng: random.Random) -> bytes:
        found = [match.start() for mark in marks for match in re.finditer(re.escape(mark), content)]
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            start = rng.choice(found) + rng.randrange(-reach, reach) if found else rng.randrange(len(changed))
            place = min(max(start, 0), len(changed) - 1)
            what = rng.randrange(6)
            if what == 0:
                changed[place] ^= 1 << rng.randrange(8)
            elif what == 1:
                changed[place] = rng.randrange(256)
            elif what == 2:
                changed[place : place + 4] = struct.pack("<I", rng.choice((0, 1, 1 << 31, (1 << 32) - 1, len(content))))
            elif what == 3:
                changed[place : place + 8] = struct.pack("<Q", rng.choice((0, 1 << 40, (1 << 64) - 1, len(content))))
            elif what == 4:
                changed[place : place + rng.randrange(1, 64)] = b""
            else:
                changed[place:place] = changed[place : place + rng.randrange(1, 64)]
        return bytes(changed)

    return mutate


def cut(content: bytes, rng: random.Random) -> bytes:
    """Cuts a file off, or adds to it."""
    place = rng.choice(
        (rng.randrange(len(content)), rng.randrange(min(len(content), 2000)), len(content) - rng.randrange(9))
    )
    return content[:place] if rng.random() < 0.8 else content + bytes(rng.randrange(1, 5000))


def odd_json(value, rng: random.Random):
    """Exchanges one value of JSON, or a key, by something odd."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        changed = dict(value) if isinstance(value, dict) else list(value)
        what = rng.random()
        if what < 0.1:
            del changed[key]
        elif what < 0.15 and isinstance(value, dict):
            changed[rng.choice(("surprise", "\x1b]0;title\x07", "format", "step"))] = changed.pop(key)
        else:
            changed[key] = odd_json(value[key], rng)
        return changed
    return rng.choice(ODD)


def in_json(content: bytes, rng: random.Random) -> bytes:
    """Changes a JSON file: one odd value, or its text."""
    what = rng.random()
    if what < 0.7:
        return json.dumps(odd_json(json.loads(content), rng)).encode()
    if what < 0.8:
        depth = rng.choice((900, 100_000))
        return b'{"a":' * depth + b"1" + b"}" * depth if rng.random() < 0.5 else b"[" * depth
    if what < 0.85:
        return content.replace(b"224", b"9" * rng.choice((5, 400, 5000))).replace(b"32", b"9" * 5000)
    return in_bytes()(content, rng)


def in_safetensors(content: bytes, rng: random.Random) -> bytes:
    """Changes the table of a safetensors file, and sometimes what it says of its length."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    for _ in range(rng.choice((1, 1, 1, 3))):
        header = odd_json(header, rng)
        if not isinstance(header, dict):
            break
        name = rng.choice(
            [name for name in header if isinstance(header[name], dict) and "shape" in header[name]] or [None]
        )
        if name and rng.random() < 0.5:
            header[name] = header[name] | {
                rng.choice(("shape", "dtype", "data_offsets")): rng.choice((*ODD, [1 << 40, 1 << 40], "F64", "I8"))
            }
    text = json.dumps(header).encode()
    stated = len(text) if rng.random() < 0.9 else rng.choice((0, 1 << 30, 1 << 62, len(content)))
    return struct.pack("<Q", stated) + text + content[8 + length :]


def in_pickle(content: bytes, rng: random.Random) -> bytes:
    """Changes PyTorch's description of the tensors, and leaves the archive around it whole."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in entries if name.endswith("data.pkl"))
    entries[name] = in_one_pickle(entries[name], rng)
    return archived(
        entries, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    )


def in_one_pickle(pickle: bytes, rng: random.Random) -> bytes:
    changed = bytearray(pickle)
    numbers = [match.start() for match in re.finditer(rb"J[\x00-\xff]{3}\x00", pickle)] or [2]
    for _ in range(rng.choice((1, 1, 3))):
        what, place = rng.randrange(5), rng.choice(numbers)
        if what == 0:
            changed[place + 1 : place + 5] = struct.pack("<i", rng.choice((0, -1, 1, 9, 1000, (1 << 31) - 1)))
        elif what == 1:  # instructions that make more of what is there
            changed[place:place] = rng.choice(
                (b"r\xff\xff\xff\x7f", b"r\x00\x00\x00\x10", b"2", b"0", b"(", b"l", b"]", b"t", b"Q", b"b")
            )
        elif what == 2:
            repeated = rng.choice((b"\x85", b"\x86", b"h\x00", b"}", b"(", b"q\x00h\x00\x86"))
            changed[place:place] = b")" + repeated * rng.choice((3, 1000, 300_000))
        elif what == 3:
            changed[place:place] = rng.choice(
                (b"cos\nsystem\n", b"cbuiltins\neval\n", b"\x8a\xff" + b"\x7f" * 255, b"\x8b\xff\xff\xff\x7f")
            )
        else:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def in_legacy_pickle(content: bytes, rng: random.Random) -> bytes:
    start = content.index(b"}(X")
    end = content.index(b"u.", start)
    return content[:start] + in_one_pickle(content[start:end], rng) + content[end:]


def archived(entries: dict[str, bytes], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def in_entries(content: bytes, rng: random.Random) -> bytes:
    """Changes an archive: an entry is compressed, missing, there twice, or says another size of itself."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name, what = rng.choice(list(entries)), rng.randrange(4)
    if what == 0:
        return archived(entries, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    if what == 1:
        entries[name] = bytes(rng.choice((0, 1000, 1 << 24)))
        return archived(entries, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    if what == 2:
        entries[rng.choice(("other/data.pkl", "../../x", name + "2"))] = entries.pop(name)
        return archived(entries, zipfile.ZIP_STORED)
    return in_bytes(b"PK\1\2", b"PK\3\4", b"PK\5\6", reach=40)(content, rng)


def in_hdf5(content: bytes, rng: random.Random) -> bytes:
    """Changes the structure of an HDF5 file with HDF5's own library: where numbers are, links, shapes, types."""
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        paths: list[str] = []
        file.visititems(lambda name, item: paths.append(name) if isinstance(item, h5py.Dataset) else None)
        for _ in range(rng.choice((1, 1, 2))):
            _change_dataset(file, rng.choice(paths), rng)
    return buffer.getvalue()


def in_keras_archive(content: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["model.weights.h5"] = in_hdf5(entries["model.weights.h5"], rng)
    return archived(entries, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _change_dataset(file: h5py.File, path: str, rng: random.Random) -> None:
    try:
        shape, values = file[path].shape, np.asarray(file[path][()])
    except (KeyError, OSError, AttributeError):  # the change before has made it a link or a group
        return
    what = rng.randrange(13)
    if what < 11:
        del file[path]
    if what == 0:
        file.create_dataset(path, shape, "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    elif what == 1:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource("/nowhere.h5", "x", shape)
        file.create_virtual_dataset(path, layout)
    elif what == 2:
        file[path] = h5py.ExternalLink("/proc/self/mem", "/x")
    elif what == 3:
        file[path] = h5py.SoftLink(rng.choice(("/", path, "/layers", "/nowhere")))
    elif what == 4:
        file.create_dataset(path, shape, "f4")
    elif what == 5:
        file.create_dataset(path, rng.choice(((1 << 40,), (1 << 31, 1 << 20), (10_000_000_000,), ())), "f4")
    elif what == 6:
        file.create_dataset(path, data=np.resize(values, shape or (1,)), chunks=True, compression="gzip")
    elif what == 7:
        file.create_dataset(path, data=values.astype(rng.choice(("f8", "i4", "f2", ">f4", "S3"))))
    elif what == 8:
        file[path] = file[rng.choice(("/", path.rsplit("/", 2)[0]))]
    elif what == 9:
        file[path] = np.full(shape, rng.choice((np.nan, np.inf, -1e30, 3e38)), np.float32)
    elif what == 10:
        kinds = (h5py.string_dtype(), h5py.ref_dtype, h5py.vlen_dtype(np.float32), np.dtype([("a", "f4")]))
        file.create_dataset(path, shape, rng.choice(kinds))
    elif what == 11:
        file[rng.choice(("layers/surprise/vars/0", "vars/0", "\x1b[31m"))] = values
    else:
        owner = file if "layer_names" in file.attrs else file[path.split("/")[0]]
        owner.attrs["layer_names"] = rng.choice(
            ([b"../x"], [b""], ["\x1b"], [path.encode()] * 3, np.float32(3), np.zeros(10_000, "S5"), ["/"] * 5)
        )


def bases(folder: pathlib.Path) -> dict[str, Base]:
    """Returns the good files of a folder, by name, with what can be done to them."""
    archive, hdf5 = in_bytes(b"PK\1\2", b"PK\3\4", b"PK\5\6", reach=60), in_bytes(b"TREE", b"HEAP", b"SNOD", b"\x89HDF")
    everything = {
        "ours": ("weights.safetensors", (in_safetensors, in_safetensors, cut, in_bytes(reach=1))),
        "metadata": ("metadata.json", (in_json,)),
        "timm": ("config.json", (in_json,)),
        "network.pth": ("", (in_pickle, in_pickle, in_entries, archive, cut)),
        "legacy.pth": ("", (in_legacy_pickle, in_legacy_pickle, in_bytes(b"}(X"), cut)),
        "network.keras": ("", (in_keras_archive, in_entries, archive, cut)),
        "network.weights.h5": ("", (in_hdf5, hdf5, hdf5, cut)),
        "keras2.h5": ("", (in_hdf5, hdf5, cut)),
        "official": ("model.ckpt.index", (in_bytes(), cut)),
    }
    return {
        name: Base(folder / name, folder / name / file, mutations) for name, (file, mutations) in everything.items()
    }
