"""The measurement of the input: what it counts, where it puts it, and what it concludes."""

import dataclasses
import time

import numpy as np
import pytest

from configs import recipe
from pipeline.benchmarks import input as input_benchmark
from pipeline.data import preprocessing
from pipeline.data.decoding.headers import read_header
from pipeline.data.preparation import fake_imagenet
from pipeline.data.sources import open_source
from pipeline.errors import DataError
from tests.data.tiny import Noise


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(input_benchmark, "_RATE_SECONDS", 0)
    monkeypatch.setattr(input_benchmark, "_ROUNDS", 1)
    monkeypatch.setattr(input_benchmark, "usable_cpus", lambda: 1)


@dataclasses.dataclass(frozen=True)
class Busy:
    """A transform that uses 3 ms of CPU."""

    def __call__(self, example: dict, rng: np.random.Generator) -> dict:
        _use_cpu()
        return Noise()(example, rng)

    def steps(self) -> dict:
        return {"decode": lambda data, rng: np.zeros((8, 8, 3), np.uint8), "think": _use_cpu}


def _use_cpu(image=None, rng=None):
    end = time.thread_time() + 0.003
    while time.thread_time() < end:
        pass
    return image


def test_what_the_transform_costs_is_counted_once_and_in_full(data_dir, monkeypatch):
    # Long enough in batches small enough that those made while this process waited do not count.
    monkeypatch.setattr(input_benchmark, "_RATE_SECONDS", 2)
    monkeypatch.setattr(input_benchmark, "_BATCH", 4)
    costs = input_benchmark.measure_input(
        open_source("digits", "train", data_dir), Busy(), 8, lambda batch: None, images=64
    )
    assert costs.stages["think"] > 0.003 > costs.stages["decode"]
    assert 0.003 < costs.one_process < 0.03
    assert costs.images_per_second < 1 / 0.003
    assert costs.baseline is None
    assert "not all images are JPEGs" in input_benchmark.report(costs)


def test_each_stage_is_found_in_the_real_transform(data_dir):
    config = recipe.get_config().data
    transferred = []
    costs = input_benchmark.measure_input(
        open_source("digits", "train", data_dir),
        preprocessing.train_transform(config, 32),
        32,
        lambda batch: transferred.append(batch["image"].shape),
        images=64,
    )
    assert list(costs.stages) == [
        "read",
        "decode and crop",
        "resize and flip",
        "augment",
        "batch",
        "transfer to the devices",
    ]
    assert all(seconds > 0 for seconds in costs.stages.values())
    assert set(transferred) == {(64, 32, 32, 3)}


def test_the_baseline_is_whole_images_of_tensorflow(tmp_path):
    train, _ = fake_imagenet.fake_imagenet_splits(1000, 1000)
    batches = input_benchmark._baseline_batches(
        [train.read(index) for index in range(4)], 24, str(tmp_path / "records")
    )
    batch = next(batches).numpy()
    assert (batch.shape, batch.dtype) == ((64, 24, 24, 3), np.float32)
    assert 20 < batch.std() < 120
    assert len(np.unique(batch.reshape(64, -1), axis=0)) == 64  # cropped anew each time


def test_a_folder_of_images_is_measured_like_a_dataset(tmp_path):
    train, _ = fake_imagenet.fake_imagenet_splits(1000, 1000)
    (tmp_path / "below").mkdir()
    for index in range(3):
        (tmp_path / "below" / f"{index}.jpg").write_bytes(train.read(index))
    (tmp_path / "notes.txt").write_text("no image")
    source = input_benchmark.FolderSource(str(tmp_path), most=2)
    assert [source.describe(record).rpartition("/")[2] for record in range(len(source))] == ["0.jpg", "1.jpg"]
    assert all(read_header(source[record]["image"]).index for record in range(2))
    transform = preprocessing.train_transform(recipe.get_config().data, 24)
    costs = input_benchmark.measure_input(source, transform, 24, lambda batch: None, images=1)
    assert costs.baseline > 0
    with pytest.raises(DataError, match="no image"):
        input_benchmark.FolderSource(str(tmp_path / "none"), most=2)


def test_the_cores_that_a_rate_needs():
    costs = input_benchmark.InputCosts(
        {}, one_process=0.002, baseline=0.003, workers=2, images_per_second=900, baseline_images_per_second=600
    )
    assert input_benchmark.cores_needed(costs, 4000) == 8
    assert input_benchmark.cores_needed(costs, 4001) == 9
    assert "1.50 times the images of tf.data" in input_benchmark.report(costs)
