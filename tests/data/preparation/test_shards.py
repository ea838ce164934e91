"""What is on disk after a preparation, finished or interrupted, read by our source and by tfds."""

import hashlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from making import CLASSES, JPEG, contents, make_image_folder

from pipeline.data.preparation import datasets, shards
from pipeline.data.sources import Source, open_source
from pipeline.errors import DataError


def test_a_folder_of_images_is_stored_byte_for_byte(tmp_path):
    files = make_image_folder(tmp_path / "pets")
    datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    expected = {path: (content, path.split("/")[1]) for path, content in files.items()}
    assert contents(tmp_path / "data", "pets") == expected


def test_tfds_reads_what_was_written(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for class_name in CLASSES:
        (tmp_path / "pets" / class_name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "pets" / class_name / "a.png"), image[..., ::-1])  # OpenCV writes BGR
    datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    builder = tfds.builder("pets", data_dir=tmp_path / "data")
    assert builder.info.splits["train"].num_examples == 3  # classes without splits are "train"
    for example in builder.as_data_source("train"):
        np.testing.assert_array_equal(example["image"], image)


def test_an_interrupted_preparation_goes_on_at_the_first_missing_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_SHARD_BYTES", 1000)
    keys = [f"{index}.jpg" for index in range(40)]
    read_now = []

    def splits(fail_after: int) -> list[shards.Split]:
        def read(index: int) -> bytes:
            if len(read_now) == fail_after:
                raise KeyboardInterrupt
            read_now.append(index)
            return JPEG + keys[index].encode()

        return [shards.Split("train", keys, [index % 2 for index in range(40)], read, image_bytes=100)]

    directory = epath.Path(tmp_path / "pets" / "1.0.0")
    with pytest.raises(KeyboardInterrupt):
        shards.write_dataset(directory, splits(fail_after=25), CLASSES[:2], "")
    assert not (directory / "dataset_info.json").exists()
    written = sorted(path.name for path in directory.glob("*.array_record-*"))
    assert written == ["pets-train.array_record-00000-of-00004", "pets-train.array_record-00001-of-00004"]
    first_shards = set(read_now[:20])

    read_now.clear()
    shards.write_dataset(directory, splits(fail_after=-1), CLASSES[:2], "")
    assert set(read_now) == set(range(40)) - first_shards
    source = Source(str(directory), "train")
    assert {source[record]["image"] for record in range(40)} == {JPEG + key.encode() for key in keys}
    assert sorted(path.name for path in directory.iterdir() if "array_record" not in path.name) == [
        "dataset_info.json",
        "features.json",
        "label.labels.txt",
    ]


def test_the_order_on_disk_is_the_hash_order_of_the_names(tmp_path):
    make_image_folder(tmp_path / "pets")
    datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    source = open_source("pets", "train", str(tmp_path / "data"))
    names = [f"{class_name}/{index:03d}.jpg" for class_name in CLASSES for index in range(4)]
    expected = sorted(names, key=lambda name: hashlib.blake2b(name.encode()).digest())
    assert [source.describe(record) for record in range(12)] == expected


def test_a_preparation_of_other_images_is_not_continued(tmp_path, monkeypatch):
    make_image_folder(tmp_path / "pets")
    monkeypatch.setattr(shards, "write_shard", lambda *_: exit("interrupted"))
    prepare = lambda: datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    with pytest.raises(SystemExit):
        prepare()
    (tmp_path / "pets/train/cat/one_more.jpg").write_bytes(JPEG)
    with pytest.raises(DataError, match="made from other images"):
        prepare()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    make_image_folder(tmp_path / "pets")
    (tmp_path / "data/pets/1.0.0").mkdir(parents=True)
    (tmp_path / "data/pets/1.0.0/thesis.tex").touch()
    with pytest.raises(DataError, match="neither empty nor a dataset"):
        datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
