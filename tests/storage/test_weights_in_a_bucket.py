"""What `convert` and `explain` write to a bucket: there, and not in a local folder called `gs:`."""

import os

import cv2
import numpy as np
import pytest

from pipeline.storage import objects
from pipeline.weights import directory
from pipeline.weights.opening import open_weights
from tests import forks
from tests.weights.samples import random_weights, same


@pytest.fixture
def weights(tmp_path):
    weights = random_weights("mini0", num_classes=3, image_size=16)
    with directory.appearing(tmp_path / "weights") as folder:
        directory.write(weights, folder)
    return weights


def test_converted_weights_come_back(server, weights, tmp_path):
    end = forks.run("-m", "pipeline.convert", str(tmp_path / "weights"), "--out=gs://bucket/converted")
    assert end.returncode == 0, end.stderr
    assert same(open_weights("gs://bucket/converted"), weights)
    assert not os.path.exists("gs:")
    again = forks.run("-m", "pipeline.convert", str(tmp_path / "weights"), "--out=gs://bucket/converted")
    assert again.returncode == 78
    assert "is not empty" in again.stderr


@pytest.mark.slow
def test_class_activation_maps_are_there(server, weights, tmp_path):
    cv2.imwrite(str(tmp_path / "cat.png"), np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))
    arguments = ("--weights", str(tmp_path / "weights"), "--out=gs://bucket/maps", str(tmp_path / "cat.png"))
    end = forks.run("-m", "pipeline.explain", *arguments)
    assert end.returncode == 0, end.stderr
    assert objects.read("gs://bucket/maps/cat.png").startswith(b"\x89PNG")
    assert not os.path.exists("gs:")
