"""Damaged pictures: named, counted once each, and too many of them an error."""

import itertools

import pytest
from tiny import Noise

from pipeline.data.batches import eval_batches, train_batches
from pipeline.data.sources import open_source
from pipeline.errors import DataError

DAMAGED = (3, 17, 29)


@pytest.fixture
def few(data_dir):
    return open_source("digits", "train[:30]", data_dir)


def test_each_damaged_picture_is_named_once_however_often_it_comes(few, caplog):
    batches = train_batches(few, Noise(damaged=DAMAGED), batch_size=10, seed=0, max_bad_images=3)
    weights = sum(batch["weight"].sum() for batch in itertools.islice(batches, 9))  # three epochs
    assert weights == 3 * (30 - 3)
    messages = sorted(record.getMessage() for record in caplog.records)
    assert len(messages) == 3
    for record in DAMAGED:
        assert any(f"record {record} ({few.describe(record)})" in message for message in messages)


@pytest.mark.parametrize("workers", [0, 1])
def test_more_damaged_pictures_than_allowed_end_the_run(few, workers):
    batches = eval_batches(few, Noise(damaged=DAMAGED), batch_size=10, workers=workers, max_bad_images=2)
    next(batches)
    next(batches)
    with pytest.raises(DataError, match=r"3 damaged pictures .* record 29 .* config.data.max_bad_images=2"):
        next(batches)


def test_padding_is_not_damage(few):
    batches = list(eval_batches(few, Noise(), batch_size=16, max_bad_images=0))
    assert sum(batch["weight"].sum() for batch in batches) == 30
