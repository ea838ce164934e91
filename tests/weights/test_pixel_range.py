"""Exports that take pixels say that these are 0 to 255, and the SavedModel notices others."""

import json

import numpy as np
import onnx
import pytest
import tensorflow as tf

from pipeline.weights import directory, onnx_graph, savedmodel
from pipeline.weights.forward import make_forward
from pipeline.weights.keras_network import build_keras


@pytest.fixture(scope="module")
def signatures(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("savedmodel")
    savedmodel.write(weights, folder)
    loaded = tf.saved_model.load(str(folder))
    yield loaded.signatures
    del loaded  # signatures alone do not keep the variables


def test_pixels_divided_by_255_are_an_error(signatures, weights, images):
    logits = signatures["pixels"]
    found = logits(pixels=tf.constant(images, tf.float32))["logits"].numpy()
    assert np.abs(found - make_forward(weights)(images)).max() < 1e-3
    with pytest.raises(tf.errors.InvalidArgumentError, match="takes RGB, 0 to 255"):
        logits(pixels=tf.constant(images / np.float32(255), tf.float32))


@pytest.mark.parametrize("level", [0.0, 1.0, 255.0])
def test_black_white_and_almost_black_images_pass(signatures, level):
    assert np.isfinite(signatures["pixels"](pixels=tf.fill([2, 32, 32, 3], level))["logits"].numpy()).all()


def test_it_is_stated(signatures, weights, tmp_path):
    stated = json.loads(signatures["metadata"]()["json"].numpy())
    directory.write_metadata(weights.metadata, tmp_path)
    assert stated == json.loads((tmp_path / "metadata.json").read_text())
    assert stated["pixels"] == "RGB, 0 to 255"
    summary = []
    build_keras(weights).summary(print_fn=lambda line, **_: summary.append(line), line_length=150)
    assert "0_to_255" in "\n".join(summary)
    onnx_graph.write(weights, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    assert model.graph.input[0].doc_string == "RGB, 0 to 255"
    assert {entry.key: entry.value for entry in model.metadata_props}["pixels"] == "RGB, 0 to 255"
