"""`pipeline.explain` as users start it: a PNG for each image, the classes beside it, and one line for what cannot be."""

import os

import cv2
import numpy as np
import pytest

from pipeline.weights import directory
from tests import forks
from tests.weights.samples import random_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    weights = random_weights("mini0", num_classes=3, image_size=16, class_names=("red", "a $ sign", "blue"))
    folder = tmp_path_factory.mktemp("explain") / "weights"
    with directory.appearing(folder) as temporary:
        directory.write(weights, temporary)
    return folder


def explain(*arguments):
    return forks.run("-m", "pipeline.explain", *map(os.fspath, arguments))


@pytest.mark.slow
def test_each_image_has_its_maps_and_a_damaged_one_is_reported(weights, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "cat.png"), pixels)
    (tmp_path / "bad.png").write_bytes(b"no image")
    no_text = tmp_path / os.fsdecode(b"caf\xe9.png")  # a name that is not UTF-8
    no_text.write_bytes((tmp_path / "a" / "cat.png").read_bytes())
    named = [tmp_path / "a" / "cat.png", tmp_path / "bad.png", tmp_path / "b" / "cat.png", no_text]
    result = explain("--weights", weights, "--out", tmp_path / "maps", "--top", "2", *named)
    assert result.returncode == 65
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        os.fsdecode(b"caf\xe9.png"),
        "cat.png",
        "cat_2.png",
    ]
    drawn = cv2.imread(str(tmp_path / "maps" / "cat.png"))
    assert drawn.shape[1] > 2 * drawn.shape[0]  # the image and two maps, side by side
    assert result.stdout.count("%") == 6
    assert result.stderr.splitlines()[-1].startswith(f"Error: 1 of 4 could not be read, the first {named[1]}: ")


def test_what_is_missing_is_one_line(weights, tmp_path):
    for arguments, said in (
        ((), "name images"),
        (("--weights", weights, "cat.png"), "--out is missing"),
    ):
        result = explain(*arguments)
        assert result.returncode == 78
        assert said in result.stderr.splitlines()[-1]
