"""The synthetic images: like ImageNet's for the machine, and the same each time."""

import numpy as np
import pytest

from pipeline.data.decoding import images
from pipeline.data.decoding.headers import read_header
from pipeline.data.preparation import fake_imagenet

# The first table of DC codes that encoders without tables of their own write [ITU-T T.81, table K.3].
STANDARD_TABLE = bytes.fromhex("ffc4001f0000010501010101010100000000000000000102030405060708090a0b")


@pytest.fixture(scope="module", name="encoded")
def _encoded() -> list[bytes]:
    train, _ = fake_imagenet.fake_imagenet_splits(2000, 1000)
    return [train.read(index) for index in range(200)]


def test_images_of_all_classes_that_are_the_same_each_time(encoded):
    train, validation = fake_imagenet.fake_imagenet_splits(2000, 1000)
    assert (len(set(train.labels)), len(set(validation.labels))) == (1000, 1000)
    assert len({*encoded, train.read(1000)}) == 201
    assert train.read(0) == encoded[0] != validation.read(0)


def test_the_files_are_like_those_of_imagenet(encoded):
    headers = [read_header(data) for data in encoded]
    assert 100_000 < np.mean([len(data) for data in encoded]) < 120_000
    assert 170_000 < np.mean([header.width * header.height for header in headers]) < 200_000
    mcus = [(header.mcu_height, header.mcu_width) for header in headers]
    assert 0.7 < mcus.count((8, 8)) / 200 < 0.9
    assert mcus.count((16, 16)) > 10
    assert {header.components for header in headers} == {1, 3}
    assert 0 < [header.one_scan for header in headers].count(False) < 8
    assert not any(STANDARD_TABLE in data for data in encoded)


def test_they_are_noisy_but_not_noise(encoded):
    """Neighbours are alike, as in photographs, and no two rows are the same."""
    for data in encoded[:20]:
        grey = images.decode(data).astype(float).mean(axis=2)
        assert 1 < np.abs(np.diff(grey, axis=1)).mean() < 0.6 * grey.std()
