"""Every format is opened by its own runtime and gives our logits on photographs."""

import numpy as np
import onnx
import pytest
import tensorflow as tf

from pipeline.errors import ConfigError, TrainingError
from pipeline.weights import directory, exporting, onnx_graph, savedmodel, tflite, timm
from pipeline.weights.container import Weights
from pipeline.weights.forward import make_forward
from pipeline.weights.metadata import Metadata, Preprocessing
from pipeline.weights.opening import open_weights
from pipeline.weights.photographs import PHOTOGRAPHS, calibration_crops, photographs, prepare
from tests.weights.samples import measured_weights, random_weights, same

FORMATS = [name for name in exporting.FORMATS if name != "timm"]  # timm needs PyTorch: test_interop.py


def export(weights, name, folder):
    images = prepare(photographs(), weights.metadata, PHOTOGRAPHS)
    calibration = calibration_crops(weights.metadata.image_size)[:4]
    return exporting.export(weights, name, folder, images, calibration)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "official"])
def test_small_networks(weights, tmp_path, name):
    differences = export(weights, name, tmp_path / name)
    assert max(difference.relative for difference in differences if difference.limit) < 2e-2
    assert directory.read_metadata(tmp_path / name / "metadata.json") == weights.metadata


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [64, 75])
def test_b0_at_even_and_odd_sizes(tmp_path, name, size):
    export(measured_weights("b0", image_size=size), name, tmp_path / name)


@pytest.mark.parametrize("name", ["keras", "weights"])
def test_what_comes_back_is_equal_to_the_bit(weights, tmp_path, name):
    export(weights, name, tmp_path / name)
    found = open_weights(str(tmp_path / name / "model.keras" if name == "keras" else tmp_path / name))
    assert same(found, weights)
    assert found.metadata == weights.metadata


def test_timm_folders_come_back_and_say_how_to_prepare_images(tmp_path):
    weights = random_weights("b0", image_size=64, class_names=tuple("abcdefghij"), kind="ema")
    timm.write(weights, tmp_path)
    assert same(open_weights(str(tmp_path)), weights)
    config = timm.model_config(weights.metadata)
    assert config["architecture"] == "tf_efficientnet_b0"
    assert config["label_names"] == list("abcdefghij")
    stated = config["pretrained_cfg"]
    assert stated["crop_pct"] == pytest.approx(64 / 96)
    assert stated["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert stated["std"] == pytest.approx([0.229, 0.224, 0.225])
    with pytest.raises(ConfigError, match="timm has no network tiny"):
        timm.model_config(random_weights().metadata)


def test_an_export_that_computes_something_else_does_not_appear(weights, tmp_path, monkeypatch):
    wrong = exporting.Format(
        lambda weights, folder, calibration: None,
        lambda folder: iter([exporting.Opened("wrong", lambda images: make_forward(weights)(images) + 1, 1e-4)]),
    )
    monkeypatch.setitem(exporting.FORMATS, "wrong", wrong)
    with pytest.raises(TrainingError, match="computes something else"):
        export(weights, "wrong", tmp_path / "wrong")
    assert list(tmp_path.iterdir()) == []


def test_float16_is_told_from_float32(weights, tmp_path, monkeypatch):
    """Beside weights that are not rounded, the float16 file computes something else."""
    monkeypatch.setattr(tflite, "rounded_to_half", lambda weights: weights)
    with pytest.raises(TrainingError, match="beside the network with its weights rounded"):
        export(weights, "tflite", tmp_path / "tflite")


def test_missing_runtimes_and_unknown_formats(monkeypatch):
    with pytest.raises(ConfigError, match="--format=tensorrt is not one of"):
        exporting.check_formats(["tensorrt"])
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the Python package\(s\) onnx, onnxruntime: pip install"):
        exporting.check_formats(["onnx"])
    monkeypatch.setenv("TIMM_PYTHON", "/nowhere/python")
    with pytest.raises(ConfigError, match="TIMM_PYTHON=/nowhere/python cannot be started"):
        exporting.check_formats(["timm"])


def test_onnx_states_opset_free_axes_and_origin(weights, tmp_path):
    onnx_graph.write(weights, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    assert model.opset_import[0].version >= 17
    axes = model.graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in axes] == ["batch", 3, "height", "width"]
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["weights"] == "ema"
    assert properties["step"] == "7"
    assert properties["class_names"].split("\n") == list("abcdefghij")


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("savedmodel")
    savedmodel.write(weights, folder)
    return tf.saved_model.load(str(folder))


def test_savedmodel_opens_in_a_folder_whose_name_could_be_a_pattern(weights, images, tmp_path):
    savedmodel.write(weights, tmp_path / "b0 [1]")
    assert np.isfinite(savedmodel.load(tmp_path / "b0 [1]")(images)).all()


def test_savedmodel_takes_files_and_names_what_is_on_them(saved_model, weights, images):
    files = photographs()
    given = saved_model.signatures["serving_default"](pictures=tf.constant(files))
    logits = make_forward(weights)(images).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert np.abs(given["probabilities"].numpy() - expected).max() < 1e-2  # a grey level here and there
    assert [name.decode() for name in given["name"].numpy()] == ["abcdefghij"[label] for label in expected.argmax(-1)]
    names = saved_model.signatures["class_names"]()["class_names"].numpy()
    assert [name.decode() for name in names] == list("abcdefghij")


@pytest.mark.parametrize("resize", ["bicubic_tf1", "bicubic", "bicubic_antialias", "bilinear"])
@pytest.mark.parametrize("crop", ["padding", "none"])
def test_savedmodel_prepares_images_as_evaluation_does(resize, crop):
    metadata = make_metadata(resize, crop)
    for data in photographs():
        found = savedmodel.prepare_image(tf.constant(data), metadata).numpy()
        expected = metadata.eval_transform().pixels(data).astype(np.float32)
        assert np.abs(found - expected).max() <= 1
        assert np.mean(found != expected) < 0.01


def make_metadata(resize, crop):
    return Metadata("b0", 10, 75, preprocessing=Preprocessing(resize=resize, eval_crop=crop))


def test_difference_is_of_the_largest_logit():
    expected = np.array([[1.0, -4.0], [2.0, 0.0]])
    found = np.array([[1.0, -4.0], [2.0, 2.4]])
    difference = exporting.compare("a", expected, found, None)
    assert difference.relative == pytest.approx(0.6)
    assert difference.same_class == 0.5
    assert exporting.compare("a", expected, found * np.nan, None).relative == float("inf")


def test_wrong_weights_are_told_apart(weights, images):
    """The comparison would notice a single exchanged scale."""
    arrays = dict(weights.arrays)
    arrays["params/stem/bn/scale"] = np.roll(arrays["params/stem/bn/scale"], 1)
    changed = make_forward(Weights(weights.metadata, arrays))(images)
    assert exporting.compare("a", make_forward(weights)(images), changed, None).relative > 1e-3
