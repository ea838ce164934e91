import dataclasses

import numpy as np
import pytest

from pipeline.data.sources import open_source
from pipeline.errors import ConfigError, DataError
from pipeline.reporting import figures
from pipeline.training.scoring import score
from pipeline.weights.container import Weights
from pipeline.weights.forward import make_forward
from pipeline.weights.metadata import Preprocessing
from tests.weights.samples import random_weights

DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def digits_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture
def weights():
    """Of a network for 12 pixels with another crop and normalisation than the configuration has."""
    preprocessing = Preprocessing(
        eval_crop="fraction", eval_crop_fraction=0.75, resize="bilinear", mean_rgb=(9.0,) * 3, stddev_rgb=(70.0,) * 3
    )
    return random_weights(image_size=12, class_names=DIGITS, preprocessing=preprocessing)


@pytest.mark.slow
def test_accuracy_counted_by_hand_with_the_weights_own_preprocessing(config, weights, digits_dir, tmp_path):
    config.data.data_dir = digits_dir
    config.evaluation.confusion = True
    result, confusion = score(config, {"raw": weights})

    source = open_source("digits", config.data.eval_split, digits_dir)
    examples = [source[number] for number in range(len(source))]
    transform = weights.metadata.eval_transform()
    logits = make_forward(weights)(np.stack([transform.pixels(example["image"]) for example in examples]))
    labels, predictions = np.array([example["label"] for example in examples]), logits.argmax(axis=-1)
    expected = np.zeros((10, 10), np.int64)
    np.add.at(expected, (labels, predictions), 1)

    assert np.array_equal(confusion["raw"], expected)
    found = result["evaluation"]["raw"]
    assert found["examples"] == len(source) == 360
    assert found["top1"] == pytest.approx(np.mean(labels == predictions))
    assert [row["top1"] for row in found["per_class"]] == pytest.approx(list(expected.diagonal() / expected.sum(1)))
    assert (result["image_size"], result["resize"], result["damaged"]) == (12, "bilinear", 0)

    figures.write_confusion(str(tmp_path / "confusion.png"), confusion["raw"], DIGITS)
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_class_names_are_no_formulas(tmp_path):
    figures.write_confusion(str(tmp_path / "confusion.png"), np.eye(2, dtype=np.int64), ["$10 to $20", r"$\nothing$"])
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_other_classes_are_refused(config, weights, digits_dir):
    config.data.data_dir = digits_dir
    with pytest.raises(ConfigError, match=r"has 3 classes and digits.* has 10"):
        score(config, {"raw": random_weights(num_classes=3)})
    names = ("1", "0", *DIGITS[2:])
    swapped = Weights(dataclasses.replace(weights.metadata, class_names=names), weights.arrays)
    with pytest.raises(ConfigError, match="class 0 is '0' there and '1' here"):
        score(config, {"raw": swapped})


def test_weights_that_lead_to_no_numbers_are_an_error_and_not_an_accuracy(config, weights, digits_dir):
    config.data.data_dir = digits_dir
    arrays = {
        path: np.full_like(array, 3e38) if path.endswith("bn/scale") else array
        for path, array in weights.arrays.items()
    }
    with pytest.raises(DataError, match=r"elsewhere: with these weights .* not finite numbers"):
        score(config, {"raw": Weights(weights.metadata, arrays, "elsewhere")})
