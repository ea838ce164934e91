"""Damaged images: named, counted once each, nothing to training, and too many of them an error."""

import contextlib
import itertools

import numpy as np
import pytest
from tiny import Noise

from pipeline.data.loading.batches import eval_batches, train_batches
from pipeline.data.sources import open_source
from pipeline.errors import DataError

DAMAGED = (3, 17, 29)


@pytest.fixture
def few(data_dir):
    return open_source("digits", "train[:30]", data_dir)


def test_each_damaged_image_is_named_once_however_often_it_comes(few, caplog):
    batches = train_batches(few, Noise(damaged=DAMAGED), batch_size=10, seed=0, max_bad_images=3)
    weights = sum(batch["weight"].sum() for batch in itertools.islice(batches, 9))  # three epochs
    assert weights == 3 * (30 - 3)
    messages = sorted(record.getMessage() for record in caplog.records)
    assert len(messages) == 3
    for record in DAMAGED:
        assert any(f"record {record} ({few.describe(record)})" in message for message in messages)


@pytest.mark.parametrize("workers", [0, 1])
def test_more_damaged_images_than_allowed_end_the_run(few, workers):
    batches = eval_batches(few, Noise(damaged=DAMAGED), batch_size=10, workers=workers, max_bad_images=2)
    next(batches)
    next(batches)
    with pytest.raises(DataError, match=r"3 damaged images .* record 29 .* config.data.max_bad_images=2"):
        next(batches)


def test_padding_is_not_damage(few):
    batches = list(eval_batches(few, Noise(), batch_size=16, max_bad_images=0))
    assert sum(batch["weight"].sum() for batch in batches) == 30


def first_batches(source, transform, count=4, batch_size=10, **options):
    batches = train_batches(source, transform, batch_size=batch_size, seed=0, **options)
    with contextlib.closing(batches):
        return list(itertools.islice(batches, count))


@pytest.mark.parametrize("damaged", [DAMAGED, tuple(range(1, 30))])
def test_training_sees_the_next_good_image_in_the_place_of_a_damaged_one(few, damaged):
    """Also where most are damaged, and across the end of a batch and of an epoch."""
    found, whole = first_batches(few, Noise(damaged=damaged)), first_batches(few, Noise(), count=20)
    rows = {key: np.concatenate([batch[key] for batch in whole]) for key in whole[0]}
    for index, row in enumerate(itertools.chain(*(zip(*(batch[key] for key in rows)) for batch in found))):
        image, label, weight, record = row
        shown = next(i for i in range(index, len(rows["record"])) if rows["record"][i] not in damaged)
        np.testing.assert_array_equal(image, rows["image"][shown])
        assert (label, record) == (rows["label"][index], rows["record"][index])
        assert weight == (record not in damaged)


def test_the_stand_in_is_the_same_for_any_number_of_processes_and_workers(few):
    whole = first_batches(few, Noise(damaged=DAMAGED), batch_size=12)
    for process_count, workers in ((2, 0), (3, 0), (2, 1)):
        shares = [
            first_batches(
                few,
                Noise(damaged=DAMAGED),
                batch_size=12,
                process_index=process_index,
                process_count=process_count,
                workers=workers,
            )
            for process_index in range(process_count)
        ]
        for batch, *parts in zip(whole, *shares):
            for key in batch:
                np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), batch[key])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_of_nothing_but_damaged_images_is_an_error(few, workers):
    with pytest.raises(DataError, match=r"and the 64 that follow it .* cannot be decoded"):
        first_batches(few, Noise(damaged=tuple(range(30))), workers=workers, max_bad_images=None)


def test_a_damaged_image_of_an_evaluation_weighs_nothing(few):
    (batch,) = eval_batches(few, Noise(damaged=DAMAGED), batch_size=30)
    np.testing.assert_array_equal(np.flatnonzero(batch["weight"] == 0), DAMAGED)
