"""Files that point out of themselves, or that are small and claim to be large."""

import io
import os
import pathlib
import struct
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.model.scaling import architecture
from pipeline.weights import directory
from pipeline.weights.keras_network import build_keras
from pipeline.weights.names import tensor_table
from pipeline.weights.opening import open_weights
from tests.weights import torch_samples
from tests.weights.samples import write_keras_2

BIAS = "layers/dense/vars/1"


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory, weights):
    path = tmp_path_factory.mktemp("keras") / "good.weights.h5"
    build_keras(weights).save_weights(path)
    return path


@pytest.fixture
def secret(tmp_path):
    """A file with ten numbers that no weight file has, as raw bytes and as HDF5."""
    (tmp_path / "secret").write_bytes(np.full(10, 1.25, np.float32).tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["numbers"] = np.full(10, 1.25, np.float32)
    return tmp_path / "secret"


def external_storage(file, name, secret):
    file.create_dataset(name, (10,), "f4", external=[(str(secret), 0, 40)])


def external_link(file, name, secret):
    file[name] = h5py.ExternalLink(f"{secret}.h5", "/numbers")


def soft_link(file, name, secret):
    file[name] = h5py.SoftLink("/layers/conv2d/vars/0")


def virtual(file, name, secret, source="{}.h5"):
    layout = h5py.VirtualLayout((10,), "f4")
    layout[...] = h5py.VirtualSource(source.format(secret), "numbers", (10,))
    file.create_virtual_dataset(name, layout)


def virtual_without_its_source(file, name, secret):
    virtual(file, name, secret, "{}.missing.h5")


def link_to_a_group_elsewhere(file, name, secret):
    del file["layers/dense"]
    file["layers/dense"] = h5py.ExternalLink(f"{secret}.h5", "/")


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        (external_storage, "in another file"),
        (external_link, "is a link"),
        (soft_link, "is a link"),
        (virtual, "virtual"),
        (virtual_without_its_source, "virtual"),
        (link_to_a_group_elsewhere, "is a link"),
    ],
)
@pytest.mark.parametrize("kind", ["weights.h5", "keras"])
def test_what_is_not_stored_in_the_file_is_refused(keras_file, secret, tmp_path, point, expected, kind):
    buffer = io.BytesIO(keras_file.read_bytes())
    with h5py.File(buffer, "r+") as file:
        del file[BIAS]
        point(file, BIAS, secret)
    path = tmp_path / f"pointing.{kind}"
    path.write_bytes(buffer.getvalue())
    if kind == "keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model.weights.h5", buffer.getvalue())
    with pytest.raises(DataError, match=rf"pointing\.{kind}: layers/dense.*{expected}"):
        open_weights(str(path))


@pytest.mark.parametrize("point", [external_storage, external_link, virtual])
def test_files_of_keras_2_as_well(weights, secret, tmp_path, point):
    write_keras_2(tmp_path / "keras2.h5", weights)
    with h5py.File(tmp_path / "keras2.h5", "r+") as file:
        del file["predictions/predictions/bias:0"]
        point(file, "predictions/predictions/bias:0", secret)
    with pytest.raises(DataError, match=r"keras2\.h5: predictions/"):
        open_weights(str(tmp_path / "keras2.h5"))


def test_a_link_to_a_pipe_is_not_opened(keras_file, tmp_path):
    """The `in` of h5py opens what a link points to; opening this one would never end."""
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "pointing.h5", "w") as file:
        file["layers"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/")
    with pytest.raises(DataError, match="layers is a link"):
        open_weights(str(tmp_path / "pointing.h5"))


def table(variant):
    return tensor_table(architecture(variant), 1000)


def unallocated(path, weights):
    """A few kilobytes that say they are six datasets of a gigabyte."""
    with h5py.File(path, "w") as file:
        for number in range(6):
            file.create_dataset(f"layers/conv2d_{number}/vars/0", (1 << 28,), "f4")


def unallocated_in_the_right_shapes(path, weights):
    with h5py.File(path, "w") as file:
        for tensor in table("l2"):
            file.create_dataset(tensor.foreign["keras_h5"], tensor.shape_in("keras_h5"), "f4")


def deflated_weights(path, weights):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model.weights.h5", "w") as entry:
        for _ in range(100):
            entry.write(bytes(1 << 20))


def deflated_description(path, weights):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data.pkl", "w") as entry:
        for _ in range(100):
            entry.write(b"(" * (1 << 20))


def bzip2(path, weights):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive, archive.open("archive/data.pkl", "w") as entry:
        for _ in range(10):
            entry.write(bytes(1 << 20))


def views_of_one_storage(path, weights):
    storage = np.zeros(1 << 22, np.float32)
    tensors = {f"tensor.{number}": torch_samples.tensor("0", storage) for number in range(700)}
    path.write_bytes(torch_samples.as_zip(b"\x80\x02" + torch_samples.dictionary(tensors) + b".", {"0": storage}))


def all_of_l2_in_one_storage(path, weights):
    """Names and shapes are those of a network of 2 GB."""
    storage = np.zeros(12_000_000, np.float32)
    tensors = {}
    for tensor in table("l2"):
        shape = tensor.shape_in("timm")
        strides = np.cumprod([1, *shape[:0:-1]])[::-1].tolist()
        tensors[tensor.foreign["timm"]] = torch_samples.tensor("0", storage, shape, strides)
    path.write_bytes(torch_samples.as_zip(b"\x80\x02" + torch_samples.dictionary(tensors) + b".", {"0": storage}))


def memo_of_gigabytes(path, weights):
    """Python's unpickler makes a table as long as the largest number."""
    path.write_bytes(torch_samples.as_zip(b"\x80\x02}r\xff\xff\xff\x0f.", {}))


def key_that_is_hashed_for_ever(path, weights):
    """Sixty pairs, each of the pair before twice, as a key: 2 ** 60 hashes."""
    nested = b")" + b"".join(b"q" + bytes([number]) + b"h" + bytes([number]) + b"\x86" for number in range(60))
    path.write_bytes(torch_samples.as_zip(b"\x80\x02}" + nested + b"K\x01s.", {}))


def long_list_of_entries(path, weights):
    entries = (b"PK\1\2" + bytes(42)) * 100_000
    path.write_bytes(entries + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, len(entries), 0, 0))


def long_table(path, weights):
    header = (
        b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(200_000)) + b"}"
    )
    path.write_bytes(struct.pack("<Q", len(header)) + header)


CLAIMS = {
    "unallocated.h5": (unallocated, "does not have its numbers"),
    "right_shapes.h5": (unallocated_in_the_right_shapes, "does not have its numbers"),
    "deflated.keras": (deflated_weights, "would unpack from"),
    "deflated.pth": (deflated_description, "would unpack from"),
    "bzip2.pth": (bzip2, "by another method"),
    "views.pth": (views_of_one_storage, "holds no network that is known here"),
    "l2.pth": (all_of_l2_in_one_storage, "share their numbers"),
    "memo.pth": (memo_of_gigabytes, "is not a dictionary of tensors"),
    "hash.pth": (key_that_is_hashed_for_ever, "keys that are neither text nor numbers"),
    "entries.pth": (long_list_of_entries, "lists its entries in"),
    "table.safetensors": (long_table, "no network of the family has that many"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, weights):
    """What becomes of all claims in one process with 1 GB to spare, and 2 seconds of CPU for each."""
    folder, good = tmp_path_factory.mktemp("claims"), tmp_path_factory.mktemp("good")
    directory.write(weights, good)
    for name, (write, _) in CLAIMS.items():
        write(folder / name, weights)
    result = subprocess.run(
        [sys.executable, "-m", "tests.weights.fuzzer", good, folder], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, (result.stdout, result.stderr[-2000:])
    return dict(line.split(" ", 1) for line in result.stdout.splitlines())


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_compared_with_the_file_before_it_is_believed(outcomes, name):
    assert name in outcomes[name]
    assert CLAIMS[name][1] in outcomes[name]


def test_compressed_archives_of_real_numbers_are_read(weights, tmp_path):
    torch_samples.write(tmp_path / "stored.pth", weights.in_convention("timm"))
    build_keras(weights).save(tmp_path / "stored.keras")
    with zipfile.ZipFile(tmp_path / "stored.keras") as stored:
        content = stored.read("model.weights.h5")
    with zipfile.ZipFile(tmp_path / "deflated.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", content)
    assert pathlib.Path(tmp_path / "deflated.keras").stat().st_size < len(content)
    for name in ("stored.pth", "deflated.keras"):
        assert open_weights(str(tmp_path / name)).metadata.variant == weights.metadata.variant
