"""The check at the end of a preparation against datasets with wrong labels and against known counts."""

import json

import numpy as np
import pytest
from etils import epath
from making import tfrecord_dataset

from pipeline.data.preparation import datasets
from pipeline.errors import DataError


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 1, 0], "1 classes have no image in 'train', such as .'2'"),
        ([0, 1, 2, -1], "1 of 4 images in 'train' have no label"),
    ],
)
def test_labels_are_checked_when_a_dataset_is_prepared(tmp_path, labels, message):
    old = tfrecord_dataset(tmp_path / "old", labels)
    with pytest.raises(DataError, match=message):
        datasets.prepare_conversion(str(old), str(tmp_path / "new"))


def test_a_label_past_the_class_names_is_found(tmp_path):
    old = tfrecord_dataset(tmp_path / "old", [0, 1, 2, 3], num_classes=4)
    new = tmp_path / "new"
    new.mkdir()
    (old / "label.labels.txt").write_text("a\nb\nc\n")
    features = (old / "features.json").read_text()
    assert '"numClasses": "4"' in features
    (old / "features.json").write_text(features.replace('"numClasses": "4"', '"numClasses": "3"'))
    with pytest.raises(DataError, match="has label 3; expected 0 to 2"):
        datasets.prepare_conversion(str(old), str(new))


def test_the_check_counts_what_is_there(data_dir):
    directory = epath.Path(data_dir) / "digits" / "1.0.0"
    counts = json.loads((directory / "contents.json").read_text())
    totals = np.add(counts["train"]["label_counts"], counts["test"]["label_counts"])
    # https://scikit-learn.org/stable/datasets/toy_dataset.html: about 180 samples of each of the ten digits
    assert totals.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
