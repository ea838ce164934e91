"""Evaluation after evaluation from the same workers: each pass is whole, and nobody is started twice."""

import contextlib
import itertools
import os

import numpy as np
import pytest
from tiny import Noise

from pipeline.data.loading.batches import EvalPasses, eval_batches
from pipeline.data.sources import open_source
from pipeline.errors import DataError


class WithProcess(Noise):
    """Has the process that made an example as its label."""

    def __call__(self, example: dict, rng=None) -> dict:
        return {**super().__call__(example, rng), "label": np.int32(os.getpid())}


@pytest.fixture
def source(data_dir):
    return open_source("digits", "test[:50]", data_dir)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("batch_size", "process_index", "process_count"), [(16, 0, 1), (24, 1, 2)])
def test_each_pass_is_an_evaluation(source, workers, batch_size, process_index, process_count):
    options = {"batch_size": batch_size, "process_index": process_index, "process_count": process_count}
    expected = list(eval_batches(source, Noise(), **options))
    with contextlib.closing(EvalPasses(source, Noise(), workers=workers, **options)) as passes:
        for _ in range(3):
            found = list(passes.next_pass())
            for batch, same in zip(found, expected, strict=True):
                for key in same:
                    np.testing.assert_array_equal(batch[key], same[key])


def makers(batches):
    return {int(label) for batch in batches for label, weight in zip(batch["label"], batch["weight"]) if weight}


def test_workers_stay_between_passes_and_go_at_the_end(source):
    passes = EvalPasses(source, WithProcess(), batch_size=10, workers=1)
    with contextlib.closing(passes):
        first, second = makers(passes.next_pass()), makers(passes.next_pass())
        assert first == second
        assert os.getpid() not in first
    for process in first:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_pass_that_was_left_does_not_spoil_the_next(source):
    with contextlib.closing(EvalPasses(source, Noise(), batch_size=10, workers=1)) as passes:
        with contextlib.closing(passes.next_pass()) as left:
            next(left)
        records = np.concatenate([batch["record"] for batch in passes.next_pass()])
        np.testing.assert_array_equal(records, np.arange(50))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_and_counted_once_in_all_passes(source, workers, caplog):
    transform = Noise(damaged=(3, 17))
    with contextlib.closing(EvalPasses(source, transform, batch_size=10, workers=workers, max_bad_images=2)) as passes:
        for _ in range(2):
            assert sum(batch["weight"].sum() for batch in passes.next_pass()) == 48
    assert len(caplog.messages) == 2
    with (
        contextlib.closing(EvalPasses(source, transform, batch_size=10, workers=workers, max_bad_images=1)) as passes,
        pytest.raises(DataError, match="2 damaged images"),
    ):
        list(itertools.islice(passes.next_pass(), 2))
