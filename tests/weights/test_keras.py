"""Against `keras.applications` itself: its network, its files, its names."""

import h5py
import keras
import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.weights.forward import make_forward
from pipeline.weights.keras_network import build_keras
from pipeline.weights.metadata import IMAGENET_MEAN_RGB, IMAGENET_STDDEV_RGB
from pipeline.weights.opening import open_weights
from pipeline.weights.photographs import PHOTOGRAPHS, photographs, prepare
from tests.weights.samples import random_weights, same, write_keras_2


@pytest.fixture(scope="module")
def theirs(b0):
    """EfficientNetB0 of `keras.applications` with our arrays, found by name."""
    model = keras.applications.EfficientNetB0(
        weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None
    )
    arrays = b0.in_convention("keras")
    for variable in model.weights:
        if variable.path in arrays:
            variable.assign(arrays.pop(variable.path))
    assert not arrays
    normalization = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    normalization.adapt_mean.assign(np.divide(IMAGENET_MEAN_RGB, 255))
    normalization.adapt_variance.assign(np.square(np.divide(IMAGENET_STDDEV_RGB, 255)))
    normalization.finalize_state()
    return model


@pytest.fixture(scope="module")
def images(b0):
    return prepare(photographs(), b0.metadata, PHOTOGRAPHS)


def test_keras_computes_the_same_from_the_same_names(b0, theirs, images):
    expected = make_forward(b0)(images)
    found = theirs.predict(images.astype(np.float32), verbose=0)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_their_files_are_read(b0, theirs, tmp_path, name):
    (theirs.save if name.endswith(".keras") else theirs.save_weights)(tmp_path / name)
    found = open_weights(str(tmp_path / name))
    assert same(found, b0)
    assert found.metadata.preprocessing.mean_rgb == pytest.approx(IMAGENET_MEAN_RGB, rel=1e-6)
    assert found.metadata.preprocessing.stddev_rgb == pytest.approx(IMAGENET_STDDEV_RGB, rel=1e-6)


def test_our_weights_file_loads_into_their_network(b0, theirs, images, tmp_path):
    build_keras(b0).save_weights(tmp_path / "ours.weights.h5")
    expected = theirs.predict(images.astype(np.float32), verbose=0)
    keras.backend.clear_session()
    model = keras.applications.EfficientNetB0(
        weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None
    )
    model.load_weights(tmp_path / "ours.weights.h5")
    assert np.abs(model.predict(images.astype(np.float32), verbose=0) - expected).max() < 1e-5


@pytest.mark.parametrize("variance", [(0.229, 0.224, 0.225), (0.229**2, 0.224**2, 0.225**2)])
def test_files_of_keras_2_and_their_deviation_in_place_of_the_variance(b0, tmp_path, variance):
    write_keras_2(tmp_path / "efficientnetb0.h5", b0, variance)
    found = open_weights(str(tmp_path / "efficientnetb0.h5"))
    assert same(found, b0)
    assert found.metadata.preprocessing.stddev_rgb == pytest.approx(IMAGENET_STDDEV_RGB, rel=1e-5)


def test_round_trip_of_a_network_that_keras_does_not_have(tmp_path):
    weights = random_weights("lite1", image_size=32)
    build_keras(weights).save(tmp_path / "lite1.keras")
    found = open_weights(str(tmp_path / "lite1.keras"))
    assert same(found, weights)
    assert found.metadata.variant == "lite1"


def test_damaged_files_are_one_error(weights, tmp_path):
    build_keras(weights).save(tmp_path / "whole.keras")
    content = (tmp_path / "whole.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.h5").write_text("no weights")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("layers/conv2d/vars/0", (1 << 40, 1 << 20), np.float32, chunks=(1, 1024))
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    for name in ("cut.keras", "text.h5", "huge.h5", "empty.h5"):
        with pytest.raises(DataError, match=name):
            open_weights(str(tmp_path / name))
