"""The preview command, as a user runs it."""

import cv2
import numpy as np
import pytest

from tests import forks

TILE, STEP_DOWN, STEP_RIGHT, TOP, LEFT = 160, 182, 164, 22, 4


def run(*arguments):
    return forks.run("-m", "pipeline.preview", "--config", "configs/b0.py", *map(str, arguments))


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    rng = np.random.default_rng(0)
    for path in paths:
        cv2.imwrite(str(path), cv2.GaussianBlur(rng.integers(0, 256, (200, 300, 3), dtype=np.uint8), (0, 0), 3))
    return [f"--image={path}" for path in paths]


def tile(sheet, row, column):
    top, left = TOP + row * STEP_DOWN, LEFT + column * STEP_RIGHT
    return sheet[top : top + TILE, left : left + TILE].astype(int)


def test_draws_an_operation_for_each_image_and_level(images, tmp_path):
    result = run("--op=Invert", f"--out={tmp_path}/sheet.png", *images)
    assert result.returncode == 0, result.stderr
    sheet = cv2.imread(f"{tmp_path}/sheet.png")
    assert sheet.shape[:2] == (2 * STEP_DOWN + 4, 12 * STEP_RIGHT + 4)
    for row in range(2):
        before, after = tile(sheet, row, 0), tile(sheet, row, 11)
        assert before.std() > 3
        assert np.abs(before + after - 255).max() <= 1
    assert np.abs(tile(sheet, 0, 0) - tile(sheet, 1, 0)).mean() > 1


def test_draws_randaugments_own_magnitude_beside_the_levels(images, tmp_path):
    options = ("--config.data.augment=randaugment", "--config.data.randaugment_magnitude=28")
    result = run("--op=all", f"--out={tmp_path}/sheet.png", *options, *images)
    assert result.returncode == 0, result.stderr
    assert cv2.imread(f"{tmp_path}/sheet.png").shape[:2] == (16 * STEP_DOWN + 4, 13 * STEP_RIGHT + 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--op=Blur", "--out=a.png"), "--op=Blur"),
        (("--out=a.jpg",), "ending in .png"),
        (("--out=a.png", "--image=nowhere.jpg"), "--image=nowhere.jpg: No such file"),
        (("--out=a.png", "--image=LICENSE"), "unknown image format"),
        (("--out=a.png", "--picture=old.jpg"), "--picture is called --image now"),
        (("--out=a.png", "--config.data.name=no_such_set"), "no_such_set"),
    ],
)
def test_errors_are_one_line(arguments, message):
    result = run(*arguments)
    assert result.returncode > 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
