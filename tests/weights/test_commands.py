"""The commands as users start them: exit codes, one-line errors, what they print and write."""

import json
import os

import numpy as np
import pytest

from pipeline.weights import directory
from pipeline.weights.forward import make_forward
from pipeline.weights.opening import open_weights
from pipeline.weights.photographs import PHOTOGRAPHS, photographs
from tests import forks
from tests.weights.samples import random_weights, same


def run(command, *arguments):
    return forks.run("-m", f"pipeline.{command}", *map(str, arguments))


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """A folder with weights of a network that the commands know, and what was written there."""
    weights = random_weights("mini0", num_classes=3, image_size=16, class_names=("red", "green", "blue"))
    folder = tmp_path_factory.mktemp("commands") / "weights"
    with directory.appearing(folder) as temporary:
        directory.write(weights, temporary)
    return folder, weights


def test_export_says_what_and_how_well(mini, tmp_path):
    folder, weights = mini
    result = run("export", "--weights", folder, "--format", "weights,onnx", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["onnx", "weights"]
    assert same(open_weights(str(tmp_path / "out" / "weights")), weights)
    for part in ("mini0, 3 classes", "16 pixels", "onnx/model.onnx: largest difference", "limit 0.0001"):
        assert part in result.stderr
    again = run("export", "--weights", folder, "--format", "weights", "--out", tmp_path / "out")
    assert again.returncode == 78
    assert again.stderr.splitlines()[-1].startswith("Error: ")
    assert "exists already" in again.stderr


def test_predict_gives_the_probabilities_of_the_network(mini, tmp_path):
    folder, weights = mini
    paths = [tmp_path / name for name in PHOTOGRAPHS]
    for path, data in zip(paths, photographs()):
        path.write_bytes(data)
    result = run("predict", *paths, "--weights", folder, "--top", 2, "--json")
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [image["picture"] for image in found] == [str(path) for path in paths]
    transform = weights.metadata.eval_transform()
    logits = make_forward(weights)(np.stack([transform.pixels(data) for data in photographs()]))
    for image, row in zip(found, logits.astype(np.float64)):
        shares = np.exp(row) / np.exp(row).sum()
        order = np.argsort(-shares)[:2]
        assert [entry["name"] for entry in image["classes"]] == [("red", "green", "blue")[label] for label in order]
        assert [entry["probability"] for entry in image["classes"]] == pytest.approx(list(shares[order]), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("convert", "{}/bomb.pth", "--out", "{}/out"), 65, "refused"),
        (("convert", "--out", "{}/out"), 78, "name one file or folder to convert, not 0"),
        (("predict", "--weights", "{}/nothing", "{}/bomb.pth"), 65, "does not exist"),
        (
            ("evaluate", "--weights", "{}/bomb.pth", "--config", "configs/quickstart.py", "--out", "{}/bomb.pth/out"),
            78,
            "Not a directory",
        ),
    ],
)
def test_errors_are_one_line(tmp_path, arguments, code, expected):
    (tmp_path / "bomb.pth").write_bytes(b"cos\nsystem\n(S'touch " + os.fsencode(tmp_path) + b"/executed'\ntR.")
    result = run(*(argument.format(tmp_path) for argument in arguments))
    assert result.returncode == code
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert expected in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bomb.pth"]
