"""Files of networks other than EfficientNet: Keras's own, and round trips in every format that has the network."""

import keras
import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.weights import directory, official, timm
from pipeline.weights.forward import make_forward
from pipeline.weights.keras_network import build_keras
from pipeline.weights.opening import Overrides, open_weights
from tests.weights.samples import random_weights, same


@pytest.mark.parametrize("variant", ["v2_b0", "v2_s"])
def test_official_checkpoints_come_back_equal_to_the_bit(tmp_path, variant):
    weights = random_weights(variant, kind="ema", step=7)
    official.write(weights, tmp_path)
    found = open_weights(str(tmp_path))
    assert same(found, weights)
    assert (found.metadata.variant, found.metadata.step) == (variant, 7)
    assert found.metadata.preprocessing.mean_rgb == (128.0,) * 3


def test_timm_folders_of_v2_come_back_equal_to_the_bit(tmp_path):
    weights = random_weights("v2_b3")
    timm.write(weights, tmp_path)
    assert timm.model_config(weights.metadata)["architecture"] == "tf_efficientnetv2_b3"
    assert same(open_weights(str(tmp_path)), weights)


@pytest.mark.parametrize("variant", ["v2_b0", "mobilenet_v1", "mobilenet_v2", "resnet50"])
def test_our_keras_files_come_back(tmp_path, variant):
    weights = random_weights(variant)
    build_keras(weights).save(tmp_path / "model.keras")
    directory.write_metadata(weights.metadata, tmp_path)
    found = open_weights(str(tmp_path / "model.keras"))
    assert found.metadata.variant == variant
    if variant == "resnet50":  # the first kernel is turned round, as for the files of keras.applications
        weights.arrays["params/stem/conv/kernel"] = weights.arrays["params/stem/conv/kernel"][:, :, ::-1]
    assert same(found, weights)


KERAS = {
    "mobilenet_v1": ("MobileNet", 1e-3),
    "mobilenet_v2": ("MobileNetV2", 1e-3),
    "resnet50_v1": ("ResNet50", 1.001e-5),
    "v2_b1": ("EfficientNetV2B1", 1e-3),
}


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
@pytest.mark.parametrize("variant", KERAS)
def test_files_of_keras_applications_compute_the_same(tmp_path, variant, name):
    network, epsilon = KERAS[variant]
    build = getattr(keras.applications, network)
    model = build(weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.path.startswith("normalization"):
            continue
        spread = 0.7 / np.sqrt(np.prod(variable.shape[:-1])) if variable.path.endswith("kernel") else 0.1
        centre = 1.0 if variable.path.endswith(("gamma", "variance")) else 0.0
        variable.assign(centre + spread * rng.normal(size=variable.shape))
    (model.save if name.endswith(".keras") else model.save_weights)(tmp_path / name)
    weights = open_weights(str(tmp_path / name))
    assert weights.metadata.variant == variant
    assert weights.metadata.bn_epsilon == epsilon

    pixels = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    stated = weights.metadata.preprocessing
    given = (pixels - np.asarray(stated.mean_rgb, np.float32)) / np.asarray(stated.stddev_rgb, np.float32)
    if variant == "resnet50_v1":
        given = given[..., ::-1]  # Keras's published weights take blue, green, red
    elif variant == "v2_b1":
        given = pixels.astype(np.float32)  # the network normalises by itself
    expected = model.predict(given, verbose=0)
    found = make_forward(weights)(pixels)
    assert np.abs(expected).max() > 1e-3
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("write", [official.write, timm.write])
def test_formats_that_do_not_have_a_network_say_so(tmp_path, write):
    with pytest.raises(ConfigError, match="no network mobilenet_v2"):
        write(random_weights("mobilenet_v2"), tmp_path)


def test_a_variant_that_a_kind_of_file_cannot_hold(tmp_path):
    weights = random_weights("v2_b0")
    timm.write(weights, tmp_path)
    with pytest.raises(DataError, match="no file of this kind has that network"):
        open_weights(str(tmp_path), Overrides(variant="resnet50"))
