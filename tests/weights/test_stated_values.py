"""What files say beside their tensors: values out of range, files of others, names that a terminal would obey."""

import dataclasses
import json
import os
import pathlib
import zipfile

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.weights import directory, exporting, official, timm
from pipeline.weights.command_line import _read_class_names
from pipeline.weights.container import Weights
from pipeline.weights.forward import make_forward
from pipeline.weights.keras_network import build_keras
from pipeline.weights.opening import Overrides, open_weights
from pipeline.weights.tensor_files import write_tensors
from tests.weights import torch_samples
from tests.weights.samples import random_weights, same


@pytest.fixture
def folder(weights, tmp_path):
    """Our folder with good weights that once came from "a test"."""
    path = tmp_path / "ours"
    path.mkdir()
    directory.write(weights, path)
    return path


@pytest.fixture
def hub(b0, tmp_path):
    """timm's folder with good weights."""
    path = tmp_path / "hub"
    path.mkdir()
    timm.write(b0, path)
    return path


def restate(path, change):
    """Changes a JSON file by a function or, from text, as a whole."""
    if callable(change):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    else:
        path.write_text(change)


def put(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


NESTED = '{"a":' * 100_000 + "1" + "}" * 100_000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (put("preprocessing", "mean_rgb", value=[float("nan")] * 3), "NaN is not a JSON number"),
        (put("preprocessing", "stddev_rgb", value=[float("inf")] * 3), "Infinity is not a JSON number"),
        (put("bn_epsilon", value=float("nan")), "NaN is not a JSON number"),
        (put("bn_epsilon", value=-1e-3), "bn_epsilon is -0.001"),
        (put("preprocessing", "stddev_rgb", value=[10**400] * 3), "stddev_rgb is"),
        (put("preprocessing", "mean_rgb", value=[-1e30] * 3), "mean_rgb is"),
        (put("image_size", value=20_000), "image_size is 20000"),
        (put("image_size", value=10**9), "image_size is 1000000000"),
        (put("image_size", value=224.5), "'image_size' is 224.5"),
        (put("preprocessing", "eval_crop_fraction", value=2.0), ": eval_crop_fraction is 2.0"),
        (put("preprocessing", "resize", value="nearest"), ": resize is 'nearest'"),
        (put("preprocessing", "eval_crop_padding", value=-5), ": eval_crop_padding is -5"),
        (put("class_names", value=["\ud800", *"bcdefghij"]), "class 0, '.ud800', is not Unicode text"),
        (put("source", value="\udcff"), "source, '.udcff', is not Unicode text"),
        (put("step", value=-1), "step is -1"),
        (NESTED, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": 1, "image_size": ' + "9" * 5000 + "}", "Exceeds the limit"),
    ],
)
def test_metadata(folder, change, expected):
    restate(folder / "metadata.json", change)
    with pytest.raises(DataError, match=f"metadata\\.json.*{expected}"):
        open_weights(str(folder))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (put("pretrained_cfg", "input_size", value=[]), r"input_size is \[\]"),
        (put("pretrained_cfg", "input_size", value=["3", "224", "224"]), "input_size is"),
        (put("pretrained_cfg", "input_size", value=[3, 224.5, 224.5]), "input_size is"),
        (put("pretrained_cfg", "input_size", value=[3, 224, 240]), "input_size is"),
        (put("pretrained_cfg", "input_size", value=[3, 20_000, 20_000]), "image_size is 20000"),
        (put("pretrained_cfg", "interpolation", value="nearest"), "interpolation is 'nearest'"),
        (put("pretrained_cfg", "interpolation", value=["bicubic"]), r"interpolation is \['bicubic'\]"),
        (put("pretrained_cfg", "crop_mode", value="border"), "crop_mode is 'border'"),
        (put("pretrained_cfg", "crop_pct", value=2), "eval_crop_fraction is 2.0"),
        (put("pretrained_cfg", "mean", value=["0.5"] * 3), "expected numbers"),
        (put("pretrained_cfg", "std", value=[0, 0, 0]), r"stddev_rgb is \(0"),
        (put("pretrained_cfg", "mean", value=0.5), "mean is 0.5; expected three"),
        (put("pretrained_cfg", value=None), "pretrained_cfg is not a JSON object"),
        (put("label_names", value=list(range(10))), "label_names is not a list of names"),
        (put("label_names", value={"0": "a"}), "label_names is not a list of names"),
        (put("label_names", value=["a"]), "1 class names for 10 classes"),
        (put("architecture", value=["b0"]), r"the architecture is \['b0'\]"),
        (put("architecture", value="tf_efficientnet_b99"), "the architecture tf_efficientnet_b99 is unknown"),
        (lambda content: content["pretrained_cfg"].pop("std"), "but not std"),
        (NESTED, "nested too deeply"),
        ("[]", "is not a JSON object"),
    ],
)
def test_the_configuration_of_timm(hub, change, expected):
    restate(hub / "config.json", change)
    with pytest.raises(DataError, match=f"config\\.json.*{expected}"):
        open_weights(str(hub))


def test_what_cannot_be_followed_can_be_said_otherwise(hub, b0):
    restate(hub / "config.json", put("pretrained_cfg", "interpolation", value="nearest"))
    found = open_weights(str(hub), Overrides(preprocessing="advprop"))
    assert same(found, b0)
    assert found.metadata.preprocessing.mean_rgb == (127.5,) * 3


def changed(weights, path, value):
    arrays = {name: array.copy() for name, array in weights.arrays.items()}
    arrays[path].flat[1] = value
    return arrays


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("batch_stats/stem/bn/var", -0.01, "the variance -0.01, and no variance is negative"),
        ("batch_stats/stem/bn/mean", np.nan, "not finite"),
        ("params/head/classifier/bias", -np.inf, "not finite"),
    ],
)
def test_values_in_every_kind_of_file(weights, folder, tmp_path, path, value, expected):
    """The error names the file that was read, not the one that the weights once came from."""
    arrays = changed(weights, path, value)
    write_tensors(folder / directory.TENSORS, arrays, {})
    names = {tensor.path: tensor for tensor in weights.metadata.table}
    torch = {names[name].foreign["timm"]: names[name].to_convention(array, "timm") for name, array in arrays.items()}
    torch_samples.write(tmp_path / "network.pth", torch)
    for location, name in ((folder, "ours/weights.safetensors"), (tmp_path / "network.pth", "network.pth")):
        with pytest.raises(DataError, match=rf"{name}: {path} .*{expected}"):
            open_weights(str(location))


def overflowing(weights, where="elsewhere"):
    """Each value is a number, and what the network makes of them is none."""
    arrays = dict(weights.arrays)
    for name in ("stem", "head"):
        arrays[f"params/{name}/bn/scale"] = np.full_like(arrays[f"params/{name}/bn/scale"], 3e38)
    return Weights(weights.metadata, arrays, where)


def test_outputs_that_are_no_numbers_are_an_error_of_the_weights(weights, images, tmp_path):
    with pytest.raises(DataError, match=r"elsewhere: with these weights .* not finite"):
        make_forward(overflowing(weights))(images)
    with pytest.raises(DataError, match=r"elsewhere: with these weights .* not finite"):
        exporting.export(overflowing(weights), "onnx", tmp_path / "onnx", images, images)
    assert list(tmp_path.iterdir()) == []


def test_wishes_name_what_was_opened(folder):
    for overrides, expected in (
        (Overrides(variant="b0"), "ours holds tiny, not b0"),
        (Overrides(kind="raw"), "ours holds ema weights, not raw"),
        (Overrides(class_names=("a",)), "ours: there are 1 class names"),
        (Overrides(image_size=20_000), "ours: image_size is 20000"),
    ):
        with pytest.raises(ConfigError, match=expected):
            open_weights(str(folder), overrides)


def keras_beside(folder, weights, name):
    build_keras(weights).save(folder / "model.keras")
    with zipfile.ZipFile(folder / "model.keras") as archive:
        archive.extractall(folder)
    return folder / name


@pytest.mark.slow
@pytest.mark.parametrize(
    "foreign",
    [None, '{"name": "somebody\'s"}', "[1, 2]", '{"authors": [', "\x00\x01", '{"a":' * 100_000],
)
def test_metadata_of_others_beside_a_file_are_not_ours(weights, tmp_path, foreign, caplog):
    path = keras_beside(tmp_path, weights, "model.weights.h5")
    assert "keras_version" in json.loads((tmp_path / "metadata.json").read_text())  # what Keras itself wrote
    if foreign is not None:
        (tmp_path / "metadata.json").write_text(foreign)
    assert same(open_weights(str(path)), weights)


@pytest.mark.slow
def test_our_metadata_beside_a_file_are_taken_or_said_to_be_of_another(weights, tmp_path, caplog):
    path = keras_beside(tmp_path, weights, "model.keras")
    directory.write_metadata(weights.metadata, tmp_path)
    assert open_weights(str(path)).metadata == weights.metadata
    directory.write_metadata(dataclasses.replace(weights.metadata, variant="mini0"), tmp_path)
    open_weights(str(path))
    assert "is of mini0 with 10 classes, and the tensors are of tiny with 10 classes" in caplog.text
    restate(tmp_path / "metadata.json", put("image_size", value=-1))
    with pytest.raises(DataError, match=r"metadata\.json: image_size is -1"):
        open_weights(str(path))


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.keras", "x.h5", "x.bin"])
@pytest.mark.parametrize(("make", "expected"), [(os.mkfifo, "is a pipe"), (os.mkdir, "is a folder without weights")])
def test_pipes_and_folders_with_the_name_of_a_file(tmp_path, name, make, expected):
    make(tmp_path / name)
    with pytest.raises(DataError, match=f"{name} {expected}"):
        open_weights(str(tmp_path / name))


def test_pipes_among_the_files_of_a_folder(folder, hub, b0, tmp_path):
    official.write(b0, tmp_path)
    for path, location in (
        (folder / "metadata.json", folder),
        (hub / "config.json", hub),
        (hub / "model.safetensors", hub),
        (tmp_path / "model.ckpt.index", tmp_path / "model.ckpt"),
    ):
        content = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(DataError, match=f"{path.name} is a pipe"):
            open_weights(str(location))
        path.unlink()
        path.write_bytes(content)


def test_names_too_long_and_folders_without_permission(tmp_path):
    with pytest.raises(DataError, match="File name too long"):
        open_weights(str(tmp_path / ("x" * 300 + ".pth")))
    with pytest.raises(ConfigError, match="File name too long"), directory.appearing(tmp_path / ("x" * 300)):
        pass


def test_class_names_from_odd_files(tmp_path):
    (tmp_path / "latin").write_bytes("Käfer".encode("latin-1"))
    with pytest.raises(ConfigError, match="latin cannot be read"):
        _read_class_names(str(tmp_path / "latin"))
    with pytest.raises(ConfigError, match="is a folder"):
        _read_class_names(str(tmp_path))
    with pytest.raises(ConfigError, match="is a device"):
        _read_class_names("/dev/zero")


def test_names_do_not_reach_the_terminal_as_they_are(weights, folder, tmp_path):
    names = ("\x1b[31mred", "a\x9bb", "tab\tbed", *"defghij")
    restate(folder / "metadata.json", put("class_names", value=list(names)))
    metadata = open_weights(str(folder)).metadata
    assert metadata.class_names == names
    assert [metadata.name_of(label) for label in range(3)] == ["\\x1b[31mred", "a\\x9bb", "tab\\tbed"]

    arrays = weights.in_convention("timm") | {"\x1b]0;title\x07": np.zeros(3, np.float32)}
    torch_samples.write(tmp_path / "zip.pth", arrays)
    torch_samples.write(tmp_path / "legacy.pth", arrays, torch_samples.as_legacy)
    write_tensors(tmp_path / "x.safetensors", arrays, {})
    for name in ("zip.pth", "legacy.pth", "x.safetensors"):
        with pytest.raises(DataError, match=r"\\x1b\]0;title\\x07 is unexpected") as error:
            open_weights(str(tmp_path / name))
        assert str(error.value).isprintable()
    (tmp_path / "call.pth").write_bytes(torch_samples.as_zip(b"\x80\x02c\x1b[2J\nx\n.", {}))
    with pytest.raises(DataError, match=r"asks for \\x1b\[2J\.x"):
        open_weights(str(tmp_path / "call.pth"))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_others_may_read_what_the_umask_lets_them(weights, b0, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with directory.appearing(tmp_path / "ours") as folder:
            directory.write(weights, folder)
        with directory.appearing(tmp_path / "hub") as folder:
            timm.write(b0, folder)
    finally:
        os.umask(before)
    for path in (*(tmp_path / "ours").iterdir(), *(tmp_path / "hub").iterdir()):
        assert path.stat().st_mode & 0o777 == mode, path


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 109_485, None])
def test_the_step_of_an_official_checkpoint_is_kept(tmp_path, step):
    weights = random_weights("b0", image_size=64, kind="ema", step=step)
    official.write(weights, tmp_path)
    assert open_weights(str(tmp_path)).metadata.step == step


def test_what_is_taken_survives_being_written(hub, tmp_path):
    """Whatever convert takes, it takes again."""
    restate(hub / "config.json", put("pretrained_cfg", "input_size", value=[3, 75, 75]))
    found = open_weights(str(hub))
    directory.write(found, pathlib.Path(tmp_path))
    again = directory.read(tmp_path)
    assert again.metadata == found.metadata
    assert again.metadata.image_size == 75
