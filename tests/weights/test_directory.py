import dataclasses
import json
import pathlib
import struct

import numpy as np
import pytest
import safetensors.numpy

from pipeline.errors import ConfigError, DataError
from pipeline.weights import directory
from pipeline.weights.container import Weights
from tests.weights.samples import same


@pytest.fixture
def folder(weights, tmp_path):
    path = tmp_path / "weights"
    with directory.appearing(path) as temporary:
        directory.write(weights, temporary)
    return path


def test_round_trip(weights, folder):
    found = directory.read(folder)
    assert same(found, weights)
    assert found.metadata == weights.metadata
    assert sorted(path.name for path in folder.iterdir()) == ["metadata.json", "weights.safetensors"]


def test_an_ordinary_reader_finds_the_tensors(weights, folder):
    arrays = safetensors.numpy.load_file(folder / "weights.safetensors")
    assert np.array_equal(arrays["params/stem/conv/kernel"], weights.arrays["params/stem/conv/kernel"])


def damage(folder, how):
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])

    def with_header(changed):
        text = json.dumps(changed).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    if how == "truncated":
        path.write_bytes(content[:-100])
    elif how == "header length beyond the file":
        path.write_bytes(struct.pack("<Q", len(content) * 2) + content[8:])
    elif how == "header length of exabytes":
        path.write_bytes(struct.pack("<Q", 1 << 62) + content[8:])
    elif how == "huge shape":
        header["params/stem/conv/kernel"]["shape"] = [1 << 31, 1 << 31]
        with_header(header)
    elif how == "integers":
        header["params/stem/conv/kernel"]["dtype"] = "I32"
        with_header(header)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "pickle":
        path.write_bytes(b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.")


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "header length beyond the file",
        "header length of exabytes",
        "huge shape",
        "integers",
        "empty",
        "pickle",
    ],
)
def test_a_damaged_file_is_one_error_with_its_name(folder, how):
    damage(folder, how)
    with pytest.raises(DataError, match=r"weights\.safetensors"):
        directory.read(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(weights, value):
    arrays = {path: array.copy() for path, array in weights.arrays.items()}
    arrays["batch_stats/stem/bn/var"][3] = value
    with pytest.raises(DataError, match=r"batch_stats/stem/bn/var .*not finite"):
        Weights(weights.metadata, arrays)


def test_all_that_does_not_fit_is_listed_at_once(weights):
    arrays = dict(weights.arrays)
    del arrays["params/stem/bn/scale"]
    arrays["params/extra/kernel"] = np.zeros(3, np.float32)
    arrays["params/head/classifier/bias"] = np.zeros(11, np.float32)
    arrays["params/stem/bn/bias"] = arrays["params/stem/bn/bias"].astype(np.float64)
    with pytest.raises(DataError) as error:
        Weights(weights.metadata, arrays)
    for part in (
        "params/stem/bn/scale (8,) is missing",
        "params/extra/kernel is unexpected",
        "params/head/classifier/bias has the shape (11,), not (10,)",
        "params/stem/bn/bias is float64, not float32",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("variant", "b99", "b99"),
        ("num_classes", "10", "'num_classes' is '10'"),
        ("num_classes", True, "'num_classes' is True"),
        ("num_classes", 1, "num_classes is 1"),
        ("class_names", ["a"], "1 class names for 10 classes"),
        ("kind", "mixed", "mixed"),
        ("image_size", 0, "image_size is 0"),
        ("surprise", 1, "'surprise' is unknown"),
        ("format", 2, "'format': 1"),
    ],
)
def test_wrong_metadata_are_refused(folder, field, value, expected):
    path = folder / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(DataError, match=expected):
        directory.read(folder)


def test_nothing_half_is_left(tmp_path):
    with pytest.raises(RuntimeError), directory.appearing(tmp_path / "out") as temporary:  # noqa: PT012
        (temporary / "part").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"), directory.appearing(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "mine").read_text() == "mine"


def test_dropping_the_background(weights):
    metadata = dataclasses.replace(weights.metadata, num_classes=1001, class_names=())
    arrays = dict(weights.arrays)
    kernel = np.arange(arrays["params/head/classifier/kernel"].shape[0] * 1001, dtype=np.float32).reshape(-1, 1001)
    arrays |= {"params/head/classifier/kernel": kernel, "params/head/classifier/bias": kernel[0]}
    dropped = Weights(metadata, arrays).without_background()
    assert dropped.metadata.num_classes == 1000
    assert np.array_equal(dropped.arrays["params/head/classifier/bias"], np.arange(1, 1001))
    with pytest.raises(ConfigError, match="10 classes"):
        weights.without_background()


@pytest.mark.parametrize("named", ["volume", "link", "."])
def test_an_empty_folder_is_filled_and_stays_the_same(weights, tmp_path, monkeypatch, named):
    """As a container's volume, which cannot be replaced, or one in a parent that this user may not write."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "link").symlink_to(volume)
    monkeypatch.chdir(volume if named == "." else tmp_path)
    before = volume.stat().st_ino
    with directory.appearing(pathlib.Path(named)) as temporary:
        directory.write(weights, temporary)
    assert volume.stat().st_ino == before
    assert (tmp_path / "link").is_symlink()
    assert same(directory.read(volume), weights)
    assert sorted(path.name for path in volume.iterdir()) == ["metadata.json", "weights.safetensors"]
