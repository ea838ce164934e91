"""Batches against the rule that defines them, however many processes and workers make them."""

import contextlib
import cProfile
import itertools

import grain
import numpy as np
import pytest
from tiny import Large, Noise, Repeated

from pipeline.data.loading.batches import eval_batches, train_batches
from pipeline.data.sources import open_source
from pipeline.errors import ConfigError

SEED = 7
STARTS = (0, 12_345, 10**6)


@pytest.fixture(scope="module")
def train(data_dir):
    return open_source("digits", "train", data_dir)


def share_of(source, batch_size, start_step, process_index, process_count, workers, steps=2):
    """Returns the share of one process in `steps` batches."""
    batches = train_batches(
        source,
        Noise(),
        batch_size=batch_size,
        seed=SEED,
        start_step=start_step,
        process_index=process_index,
        process_count=process_count,
        workers=workers,
    )
    with contextlib.closing(batches):
        return list(itertools.islice(batches, steps))


def global_batches(source, batch_size, start_step, process_count, steps=2):
    """Puts the shares of all processes together: a list of `steps` whole batches, made without workers."""
    shares = [
        share_of(source, batch_size, start_step, process_index, process_count, 0, steps)
        for process_index in range(process_count)
    ]
    return [{key: np.concatenate([batch[key] for batch in step]) for key in step[0]} for step in zip(*shares)]


def assert_equal(actual, expected):
    for batch, expected_batch in zip(actual, expected, strict=True):
        for key, values in expected_batch.items():
            np.testing.assert_array_equal(batch[key], values)


def epochs(source, batch_size, seed, count):
    """The records of `count` whole epochs, `[count, len(source)]`."""
    batches = train_batches(source, Noise(), batch_size=batch_size, seed=seed)
    records = np.concatenate(
        [batch["record"] for batch in itertools.islice(batches, count * len(source) // batch_size)]
    )
    return records.reshape(count, len(source))


@pytest.mark.parametrize("start_step", STARTS)
def test_rows_follow_the_rule_and_ignore_the_number_of_processes(train, start_step):
    whole = global_batches(train, 24, start_step, process_count=1)
    order = grain.MapDataset.range(len(train)).seed(SEED).shuffle().repeat()
    for step, batch in enumerate(whole, start_step):
        records = [order[step * 24 + row] for row in range(24)]
        np.testing.assert_array_equal(batch["record"], records)
        np.testing.assert_array_equal(batch["label"], [train[record]["label"] for record in records])
    for process_count in (2, 3, 4):
        assert_equal(global_batches(train, 24, start_step, process_count), whole)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("start_step", STARTS[:2])
def test_rows_ignore_the_number_of_workers(train, start_step, workers):
    # 132 rows of one process are made in three pieces, those of two processes in two, and so on.
    whole = global_batches(train, 132, start_step, process_count=1)
    for process_count in (1, 2, 3, 4):  # the last one's share: that they all add up is tested without workers
        rows = slice(132 - 132 // process_count, None)
        last = share_of(train, 132, start_step, process_count - 1, process_count, workers)
        assert_equal(last, [{key: values[rows] for key, values in batch.items()} for batch in whole])


@pytest.mark.slow
def test_large_batches_of_workers_stay_as_they_are_while_somebody_has_them(train):
    """More of them than there is memory of them in the workers, some held and some not, beside those made here."""
    inputs = [train_batches(train, Large(), batch_size=128, seed=SEED, workers=workers) for workers in (2, 0)]
    with contextlib.closing(inputs[0]), contextlib.closing(inputs[1]):
        held = [next(inputs[0])["image"][5:]]
        expected = [next(inputs[1])["image"][5:].copy()]
        for step in range(12):
            batch, same = next(inputs[0]), next(inputs[1])
            assert_equal([batch], [same])
            if step % 3 == 0:
                held.append(batch["image"][step:])
                expected.append(same["image"][step:].copy())
        for actual, right in zip(held, expected, strict=True):
            np.testing.assert_array_equal(actual, right)


class Metered:
    """A source that fails when it is read more often than one batch and those that are made ahead of time need."""

    remote = False

    def __init__(self, source, reads: int):
        self.source, self.reads = source, reads

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, record: int) -> dict:
        self.reads -= 1
        if self.reads < 0:
            raise RuntimeError("more records were read than the first batch needs")
        return self.source[record]


def test_starting_later_takes_no_more_work(train):
    """Of this thread all calls of Python and C are counted, of the others the records that they read."""

    def calls(start_step: int) -> int:
        source, profile = Metered(train, reads=24 * 5), cProfile.Profile()
        batches = profile.runcall(train_batches, source, Noise(), batch_size=24, seed=SEED, start_step=start_step)
        profile.runcall(next, batches)
        batches.close()
        return sum(entry.callcount for entry in profile.getstats())

    calls(0)  # the first time, modules are imported
    assert calls(10**6) < 2 * calls(0)


def test_starting_later_is_the_same_stream(data_dir):
    few = open_source("digits", "train[:50]", data_dir)
    stream = global_batches(few, 8, 0, 1, steps=20)  # over three epochs
    assert_equal(global_batches(few, 8, 13, 1, steps=7), stream[13:])


def test_each_epoch_has_every_record_once_in_another_order(data_dir):
    few = open_source("digits", "train[:60]", data_dir)
    first, second = epochs(few, 12, SEED, 2)
    assert sorted(first) == sorted(second) == list(range(60))
    assert (first != second).any()
    assert (epochs(few, 12, SEED + 1, 1)[0] != first).any()
    np.testing.assert_array_equal(epochs(few, 12, SEED, 1)[0], first)


def test_draws_differ_between_rows_and_between_epochs(data_dir):
    one = open_source("digits", "train[:1]", data_dir)  # always the same image: what differs is drawn
    batches = list(itertools.islice(train_batches(one, Noise(), batch_size=8, seed=SEED), 2))
    images = np.concatenate([batch["image"] for batch in batches])
    assert len(np.unique(images, axis=0)) == 16


@pytest.mark.parametrize(
    ("examples", "batch_size", "process_count"),
    [(103, 16, 1), (103, 16, 2), (103, 18, 3), (96, 16, 2), (5, 4, 4), (5, 64, 4)],
)
def test_evaluation_counts_every_example_once_on_any_number_of_hosts(data_dir, examples, batch_size, process_count):
    source = open_source("digits", f"test[:{examples}]", data_dir)
    records, steps = [], -(-examples // batch_size)
    for process_index in range(process_count):
        share = list(
            eval_batches(
                source,
                Noise(),
                batch_size=batch_size,
                process_index=process_index,
                process_count=process_count,
            )
        )
        assert len(share) == steps
        for batch in share:
            assert batch["image"].shape == (batch_size // process_count, 8, 8, 3)
            padding = batch["weight"] == 0
            assert (batch["record"][padding] == -1).all()
            assert not batch["image"][padding].any()
            records.extend(batch["record"][~padding])
    assert sorted(records) == list(range(examples))


def test_evaluation_keeps_the_order_of_the_records(data_dir):
    source = open_source("digits", "test[:20]", data_dir)
    batches = list(eval_batches(source, Noise(), batch_size=8))
    np.testing.assert_array_equal(np.concatenate([batch["record"] for batch in batches]), [*range(20), -1, -1, -1, -1])
    np.testing.assert_array_equal(
        np.concatenate([batch["label"] for batch in batches])[:20], [source[record]["label"] for record in range(20)]
    )


def test_dtypes_are_those_of_the_contract(train):
    batch = next(train_batches(train, Noise(), batch_size=2, seed=0))
    dtypes = {key: str(values.dtype) for key, values in batch.items()}
    assert dtypes == {"image": "uint8", "label": "int32", "weight": "float32", "record": "int64"}


@pytest.mark.parametrize(("batch_size", "process_count"), [(16, 3), (0, 1), (-8, 2)])
def test_a_batch_that_cannot_be_shared_is_refused(train, batch_size, process_count):
    with pytest.raises(ConfigError, match=f"batch of {batch_size} .* {process_count} processes"):
        train_batches(train, Noise(), batch_size=batch_size, seed=0, process_count=process_count)


def staged_share(source, transform, start_step, process_index=0, process_count=1, workers=0, later=(), steps=6):
    batches = train_batches(
        source,
        transform,
        batch_size=24,
        seed=SEED,
        start_step=start_step,
        process_index=process_index,
        process_count=process_count,
        workers=workers,
        later=later,
    )
    with contextlib.closing(batches):
        return list(itertools.islice(batches, steps))


SIZES = {0: 1, 3: 2, 4: 3}  # of the stages that begin with these batches: how often an image is repeated to each side
STAGED = {step: Repeated(times, damaged=tuple(range(0, 1437, 5))) for step, times in SIZES.items()}


@pytest.mark.slow
@pytest.mark.parametrize("process_count", [1, 2, 3])
@pytest.mark.parametrize("start_step", [0, 1, 3, 5])
def test_each_batch_is_made_as_its_stage_has_it_wherever_the_run_starts(train, start_step, process_count):
    """Also rows of damaged images, whose pixels are those of a row that may belong to the next stage."""
    later = [(step, STAGED[step]) for step in (3, 4)]
    alone = {step: staged_share(train, transform, 0) for step, transform in STAGED.items()}
    shares = [
        staged_share(train, STAGED[0], start_step, index, process_count, later=later, steps=6 - start_step)
        for index in range(process_count)
    ]
    damaged = 0
    for step, parts in enumerate(zip(*shares), start_step):
        stage = max(first for first in SIZES if first <= step)
        whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        assert whole["image"].shape[1] == 8 * SIZES[stage]
        assert_equal([whole], [alone[stage][step]])
        damaged += np.sum(whole["weight"] == 0)
    assert damaged


@pytest.mark.slow
def test_workers_make_the_same_stages(train):
    later = [(step, Large(times)) for step, times in ((3, 25), (4, 30))]
    expected = staged_share(train, Large(20), 1, later=later)
    assert [batch["image"].shape[1] for batch in expected] == [160, 160, 200, 240, 240, 240]
    assert_equal(staged_share(train, Large(20), 1, workers=2, later=later), expected)
