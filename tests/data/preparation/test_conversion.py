"""Conversion of TFRecords against what TensorFlow reads from them."""

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from making import tfrecord_dataset

from pipeline.data.preparation import datasets
from pipeline.data.sources import open_source
from pipeline.errors import DataError


def test_tfrecords_are_converted_in_order_with_their_metadata(tmp_path):
    old = tfrecord_dataset(tmp_path / "old", [0, 1, 2, 0, 1, 2, 2])
    new = datasets.prepare_conversion(str(old), str(tmp_path / "new"))
    assert new == tmp_path / "new/records/small/2.3.4"
    for split in ("train", "test"):
        expected = [
            (e["image"], e["label"]) for e in tfds.builder_from_directory(old).as_dataset(split).as_numpy_iterator()
        ]
        source = open_source("records/small:2.3.4", split, str(tmp_path / "new"))
        assert source.name == "records/small:2.3.4"
        assert source.class_names == ("0", "1", "2")
        for record, (image, label) in enumerate(expected):
            decoded = cv2.imdecode(np.frombuffer(source[record]["image"], np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_array_equal(decoded, image)
            assert source[record]["label"] == label
        assert len(source) == len(expected)


def test_a_damaged_tfrecord_is_named(tmp_path):
    old = tfrecord_dataset(tmp_path / "old", [0, 1, 2])
    shard = next(old.glob("*-train.tfrecord-*"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"records-train.tfrecord-00000-of-00001 cannot be read after record 2"):
        datasets.prepare_conversion(str(old), str(tmp_path / "new"))
    assert not (tmp_path / "new/records/small/2.3.4/dataset_info.json").exists()
