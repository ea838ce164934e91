"""Sources against scikit-learn's own digits, tfds' own writers, and the ways in which a dataset can be wrong."""

import json
import pickle
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from pipeline.data.sources import find_dataset, open_source
from pipeline.errors import DataError

FEATURES = tfds.features.FeaturesDict(
    {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["cat", "dog"])}
)


def tfds_writes(data_dir, examples, **options) -> None:
    """Writes `[(image, label)]` as the split "train" with tfds' own builder."""
    images = [(i, {"image": image, "label": label}) for i, (image, label) in enumerate(examples)]
    tfds.dataset_builders.AdhocBuilder(
        **{"name": "pets", "version": "1.0.0", "file_format": "array_record", "features": FEATURES, **options},
        split_datasets={"train": images},
        data_dir=data_dir,
    ).download_and_prepare()


@pytest.fixture
def damaged(data_dir, tmp_path) -> str:
    """A copy of the digits that a test may damage."""
    shutil.copytree(data_dir, tmp_path / "data")
    return str(tmp_path / "data")


def test_digits_are_those_of_scikit_learn_each_once(data_dir):
    train, test = (open_source("digits", split, data_dir) for split in ("train", "test"))
    assert (len(train), len(test), train.num_classes) == (1437, 360, 10)
    read = []
    for source in (train, test):
        for example in (source[record] for record in range(len(source))):
            pixels = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_UNCHANGED)
            read.append((*(pixels.ravel() / 255 * 16).round().astype(int), int(train.class_names[example["label"]])))
    digits = load_digits()
    assert sorted(read) == sorted((*image.astype(int), label) for image, label in zip(digits.data, digits.target))


def test_hold_outs_divide_the_split(data_dir):
    train, rest, held_out = (open_source("digits", s, data_dir) for s in ("train", "train[:-100]", "train[-100:]"))
    assert (len(rest), len(held_out)) == (1337, 100)
    assert [held_out[i] for i in range(100)] == [train[1337 + i] for i in range(100)]
    assert rest[1336] == train[1336]
    assert len({example["label"] for example in map(held_out.__getitem__, range(100))}) == 10  # not sorted by class


def test_version_config_and_folder_are_found(data_dir, tmp_path, monkeypatch):
    for version in ("1.9.0", "1.10.0"):
        target = tmp_path / "digits" / "letters" / version
        shutil.copytree(f"{data_dir}/digits/1.0.0", target)
    (tmp_path / "digits" / "letters" / "2.0.0").mkdir()  # no dataset: its preparation never ended
    assert find_dataset("digits/letters", str(tmp_path)).name == "1.10.0"
    assert find_dataset("digits/letters:1.9.0", str(tmp_path)).name == "1.9.0"
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    assert str(find_dataset("digits")) == f"{data_dir}/digits/1.0.0"
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data_dir)
    assert find_dataset("digits:1.0.0") == tmp_path / "data" / "digits" / "1.0.0"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("imagenet2012", "--dataset imagenet2012 --manual_dir FOLDER_OF_THE_ARCHIVES --data_dir"),
        ("cifar10:3.0.2", "--dataset cifar10:3.0.2 --data_dir"),
        ("digits:3.0.0", "--dataset digits:3.0.0 --data_dir"),
        ("my_pets", "--image_folder FOLDER --name my_pets --data_dir"),
    ],
)
def test_a_missing_dataset_names_the_command(data_dir, name, command):
    with pytest.raises(DataError, match=f"python -m pipeline.prepare {command} {data_dir}"):
        open_source(name, "train", data_dir)


@pytest.mark.parametrize("name", ["", "../digits", "digits/a/b:1.0.0", "digits:latest"])
def test_a_name_that_cannot_be_one_is_refused(data_dir, name):
    with pytest.raises(DataError, match="names no dataset"):
        open_source(name, "train", data_dir)


@pytest.mark.parametrize("split", ["validation", "train[2000:]", "train[", ""])
def test_a_split_that_is_not_there_lists_those_that_are(data_dir, split):
    with pytest.raises(DataError, match=r"train \(1,437\), test \(360\)"):
        open_source("digits", split, data_dir)


def test_a_missing_shard_is_noticed_at_the_start_where_it_is_needed(damaged):
    shard = f"{damaged}/digits/1.0.0/digits-train.array_record-00000-of-00001"
    shutil.move(shard, f"{damaged}/elsewhere")
    with pytest.raises(DataError, match="lacks 1 of 1 shards, such as digits-train"):
        open_source("digits", "train[:10]", damaged)
    assert len(open_source("digits", "test", damaged)) == 360


def test_tfrecords_are_refused_with_the_command_that_converts(tmp_path):
    tfds_writes(tmp_path, [(np.zeros((4, 4, 3), np.uint8), 0)], file_format="tfrecord")
    with pytest.raises(DataError, match=r"tfrecord.*pipeline.prepare --convert .*/pets/1.0.0"):
        open_source("pets", "train", str(tmp_path))


def test_a_label_that_means_unknown_is_refused_at_the_start(tmp_path):
    tfds_writes(tmp_path, [(np.zeros((4, 4, 3), np.uint8), label) for label in (0, 1, -1)])
    with pytest.raises(DataError, match="has label -1; expected 0 to 1"):
        open_source("pets", "train", str(tmp_path))


def test_unknown_labels_that_the_preparation_counted_are_refused(damaged):
    path = f"{damaged}/digits/1.0.0/contents.json"
    with open(path) as file:
        contents = json.load(file)
    contents["train"]["unlabelled"] = 1200
    with open(path, "w") as file:
        json.dump(contents, file)
    with pytest.raises(DataError, match="1,200 examples of split 'train' have no label"):
        open_source("digits", "test+train[:5]", damaged)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"label": tfds.features.ClassLabel(names=["cat"])}, "no image"),
        ({"image": tfds.features.Image()}, "no class"),
    ],
)
def test_a_dataset_of_something_else_is_refused(tmp_path, features, message):
    example = {"label": 0} if "label" in features else {"image": np.zeros((4, 4, 3), np.uint8)}
    tfds.dataset_builders.AdhocBuilder(
        name="other",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": [(0, example)]},
        data_dir=tmp_path,
        file_format="array_record",
    ).download_and_prepare()
    with pytest.raises(DataError, match=message):
        open_source("other", "train", str(tmp_path))


def test_the_fingerprint_tells_data_apart_and_hosts_not(data_dir, damaged, tmp_path):
    train = open_source("digits", "train", data_dir)
    in_worker = pickle.loads(pickle.dumps(train))
    assert (in_worker.fingerprint, repr(in_worker), in_worker[5]) == (train.fingerprint, repr(train), train[5])
    assert open_source("digits", "train", damaged).fingerprint == train.fingerprint  # another folder
    assert open_source("digits", "train[:1000]", data_dir).fingerprint != train.fingerprint
    for name, labels in (("a", [0, 1]), ("b", [1, 0])):  # the same names, counts and sizes
        tfds_writes(tmp_path / name, [(np.full((4, 4, 3), label, np.uint8), label) for label in labels])
    unchecked = [open_source("pets", "train", str(tmp_path / name)).fingerprint for name in "ab"]
    assert unchecked[0] == unchecked[1]  # only a prepared dataset has checksums


@pytest.mark.slow
def test_opening_and_reading_imports_neither_tensorflow_nor_jax(data_dir):
    program = f"""
import sys
from pipeline.data.sources import open_source
source = open_source("digits", "train", {data_dir!r})
assert source[0]["image"][:4] == b"\\x89PNG"
print([name for name in ("tensorflow", "jax") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
