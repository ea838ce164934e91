"""The command, and what it prepared on its way through training. The datasets are tested in tests/data/preparation."""

import json
import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from pipeline.data.sources import open_source
from pipeline.errors import ConfigError, DataError
from tests import forks
from tests.runs import COMPILE_FAST


def prepare(*arguments: str, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.prepare", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


def test_digits_are_prepared_once(tmp_path):
    first = prepare("--dataset=digits", f"--data_dir={tmp_path}")
    assert (first.returncode, first.stdout) == (0, f"Prepared {tmp_path}/digits/1.0.0\n")
    assert "1437/1437" in first.stderr  # progress
    assert len(open_source("digits", "test", str(tmp_path))) == 360
    second = prepare("--dataset=digits", f"--data_dir={tmp_path}")
    assert second.returncode == DataError.exit_code
    assert second.stderr.splitlines() == [
        "Importing tensorflow_datasets (usually 5 to 20 seconds) …",
        f"Error: {tmp_path}/digits/1.0.0 already holds a finished dataset. To prepare it again, delete that folder first.",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--dataset=digits", "--image_folder=images"),
        ("--image_folder=images",),
        ("--image_folder=", "--name="),
        ("--dataset=digits", "--name=mine"),
        ("--dataset=fake_imagenet", "--examples=10"),
        ("--convert=nowhere",),
        ("--dataset=digits", "stray"),
    ],
)
def test_a_command_line_that_says_too_little_or_too_much_is_one_error(tmp_path, arguments):
    result = prepare(*arguments, cwd=tmp_path)
    assert result.returncode == ConfigError.exit_code
    (error,) = [line for line in result.stderr.splitlines() if not line.startswith("Importing ")]
    assert error.startswith("Error: ")
    assert not list(tmp_path.iterdir())


SMALL = (  # the published recipe for B0, small enough for a CPU: the network, the images and the number of steps
    "--config=configs/b0.py",
    "--config.model.variant=mini0",
    "--config.model.dtype=float32",
    "--config.model.bn_batch=16",
    "--config.batch_size=16",
    "--config.evaluation.batch_size=64",
    "--config.image_size=32",
    "--config.duration=2 steps",
    "--config.schedule.warmup=1 steps",
)


def command(name: str, *arguments: str) -> str:
    """Runs a command that must succeed, on one device, and returns what it printed."""
    result = forks.run("-m", f"pipeline.{name}", *arguments, XLA_FLAGS=COMPILE_FAST)
    assert result.returncode == 0, result.stderr
    return result.stdout


def train_and_evaluate(folder: pathlib.Path, *dataset: str) -> dict:
    """Trains two steps, evaluates the run once more on its own, and returns that after comparing the two."""
    arguments = (*SMALL, f"--workdir={folder / 'run'}", f"--config.data.data_dir={folder / 'data'}", *dataset)
    command("train", *arguments)
    evaluated = json.loads(command("evaluate", *arguments))
    trained = json.loads((folder / "run" / "results.json").read_text())
    assert (evaluated["step"], evaluated["image_size"]) == (2, 32)
    for weights in ("ema", "raw"):
        assert evaluated["evaluation"][weights] == pytest.approx(trained["evaluation"][weights], rel=1e-4)
    return evaluated


@pytest.mark.slow
def test_a_folder_of_images_goes_through_all_commands(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 7)):  # 21 images are no whole number of batches
        for class_name, suffix in (("bright", "jpg"), ("dark", "png"), ("grey", "webp")):
            folder = tmp_path / "images" / split / class_name
            folder.mkdir(parents=True)
            for index in range(count):
                shape = (*rng.integers(30, 90, 2), 3)
                cv2.imwrite(str(folder / f"{index}.{suffix}"), rng.integers(0, 256, shape, np.uint8))
    command("prepare", f"--image_folder={tmp_path / 'images'}", "--name=images", f"--data_dir={tmp_path / 'data'}")
    evaluated = train_and_evaluate(tmp_path, "--config.data.name=images", "--config.data.eval_split=test")
    assert {name: values["examples"] for name, values in evaluated["evaluation"].items()} == {"ema": 21, "raw": 21}


@pytest.mark.slow
def test_fake_imagenet_goes_through_all_commands(tmp_path):
    command("prepare", "--dataset=fake_imagenet", "--examples=1000", f"--data_dir={tmp_path / 'data'}")
    train = open_source("fake_imagenet", "train", str(tmp_path / "data"))
    assert (train.num_classes, len(train)) == (1000, 1000)
    evaluated = train_and_evaluate(tmp_path, "--config.data.name=fake_imagenet", "--config.data.workers=1")
    validation = open_source("fake_imagenet", "validation", str(tmp_path / "data"))
    assert {values["examples"] for values in evaluated["evaluation"].values()} == {len(validation)}
    assert evaluated["damaged"] == 0
