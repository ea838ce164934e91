"""The command, and what it prepared on its way through training. The datasets are tested in tests/data/preparation."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from absl import flags
from ml_collections import ConfigDict

from configs import b0
from pipeline.data.preparation import datasets
from pipeline.data.sources import open_source
from pipeline.errors import ConfigError, DataError
from pipeline.training import loop
from pipeline.training.experiment import Experiment


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
        f"Error: {tmp_path}/digits/1.0.0 already holds a finished dataset. To make it anew, delete that folder first."
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--dataset=digits", "--image_folder=pictures"),
        ("--image_folder=pictures",),
        ("--dataset=digits", "--name=mine"),
        ("--dataset=fake_imagenet", "--examples=10"),
        ("--convert=nowhere",),
        ("--dataset=digits", "stray"),
    ],
)
def test_a_command_line_that_says_too_little_or_too_much_is_one_error(tmp_path, arguments):
    result = prepare(*arguments, cwd=tmp_path)
    assert result.returncode == ConfigError.exit_code
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def settings(data_dir, name: str, eval_split: str) -> ConfigDict:
    """The published recipe for B0, made small enough for a CPU: the network, the pictures and the number of steps."""
    config = b0.get_config()
    config.model.variant = "mini0"
    config.model.dtype = "float32"
    config.model.bn_batch = 16
    config.batch_size = config.evaluation.batch_size = 16
    config.image_size = 32
    config.duration = "2 steps"
    config.schedule.warmup = "1 steps"
    config.data.name = name
    config.data.data_dir = str(data_dir)
    config.data.eval_split = eval_split
    config.data.workers = 1
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain asks its flags when it starts workers
    return config.lock()


@pytest.mark.slow
def test_a_folder_of_pictures_goes_through_training_and_evaluation(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 7)):  # 21 pictures are no whole number of batches
        for class_name, suffix in (("bright", "jpg"), ("dark", "png"), ("grey", "webp")):
            folder = tmp_path / "pictures" / split / class_name
            folder.mkdir(parents=True)
            for index in range(count):
                shape = (*rng.integers(30, 90, 2), 3)
                cv2.imwrite(str(folder / f"{index}.{suffix}"), rng.integers(0, 256, shape, np.uint8))
    datasets.prepare_image_folder(str(tmp_path / "pictures"), "pictures", str(tmp_path / "data"))
    results = loop.train(settings(tmp_path / "data", "pictures", "test"), str(tmp_path / "run"))
    assert {weights: values["examples"] for weights, values in results.items()} == {"ema": 21, "raw": 21}


def test_fake_imagenet_is_what_the_recipe_for_imagenet_expects(tmp_path):
    datasets.prepare_fake_imagenet(1000, str(tmp_path))
    experiment = Experiment.from_config(settings(tmp_path, "fake_imagenet", "validation"))
    assert (experiment.hyperparameters.num_classes, experiment.hyperparameters.num_train_examples) == (1000, 1000)
    batches = experiment.train_batches(start_step=0)
    batch = next(batches)
    batches.close()
    assert batch["image"].shape == (16, 32, 32, 3)
    assert batch["weight"].sum() == 16
