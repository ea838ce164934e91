"""The split of the digits; that they are those of scikit-learn is tested with the source."""

import numpy as np

from pipeline.data.preparation.digits import stratified_subset
from pipeline.data.sources import open_source


def test_the_test_digits_have_each_class_in_its_share(data_dir):
    test = open_source("digits", "test", data_dir)
    counts = np.bincount([test[record]["label"] for record in range(len(test))])
    shares = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180]) * 360 / 1797
    assert (np.abs(counts - shares) < 1).all()


def test_a_stratified_subset_gives_the_odd_ones_to_the_largest_remainders():
    labels = np.array([0] * 5 + [1] * 3 + [2] * 2)  # shares of 4: 2.0, 1.2, 0.8
    assert np.bincount(labels[stratified_subset(labels, 4)]).tolist() == [2, 1, 1]
