"""Seconds, hours and dollars from a compiler's figures, by hand."""

import dataclasses

import pytest

from pipeline.configuration.hyperparameters import Hyperparameters
from pipeline.configuration.stages import Stage
from pipeline.planning import estimate as estimating
from pipeline.planning.program import Program
from pipeline.planning.slices import parse_slice

PROGRAM = Program(
    fits=True,
    memory=2**33,
    memory_limit=2**34,
    largest=[],
    cycles=94_000_000,  # 0.1 s at 940 MHz
    cycles_by_kind={},
    collectives={"all-reduce": 50},  # of 10 us each
    collective_bytes=82_000_000,  # twice, at 164 GB/s: 1 ms
    compile_seconds=1.0,
)
EVALUATION = dataclasses.replace(PROGRAM, cycles=9_400_000, collectives={}, collective_bytes=0)  # 0.01 s
NUMBERS = Hyperparameters(
    **{field.name: 1 for field in dataclasses.fields(Hyperparameters)}
    | {
        "batch_size": 1024,
        "eval_batch_size": 1000,
        "num_eval_examples": 50_000,
        "image_size": 100,
        "stages": (Stage(36_000, 100, 10.0, 0.0, 0.0, 0.2),),
        "total_steps": 36_000,
        "evaluate_every_steps": 1200.0,
    }
)


@pytest.fixture
def found(monkeypatch):
    monkeypatch.setattr(estimating, "CALIBRATION", 0.8)
    return estimating.estimate([PROGRAM], EVALUATION, NUMBERS, parse_slice("v3-32"), 2.0)


def test_a_step_is_calibrated_cycles_and_collectives(found):
    assert found.collectives == pytest.approx(0.0015)
    assert found.step == pytest.approx(0.08 + 0.0015)
    assert found.images_per_second == pytest.approx(1024 / 0.0815)
    assert found.images_per_second_per_chip == pytest.approx(1024 / 0.0815 / 16)


def test_a_run_is_its_steps_and_evaluations(found):
    assert found.evaluation == pytest.approx(2 * 50 * 0.008)  # EMA and raw weights, 50 batches
    assert found.hours == pytest.approx((36_000 * 0.0815 + 30 * 0.8) / 3600)
    assert found.chip_hours == pytest.approx(16 * found.hours)
    assert found.dollars == pytest.approx(32 * found.hours)


def test_a_single_device_waits_for_nobody():
    alone = estimating.estimate([PROGRAM], EVALUATION, NUMBERS, parse_slice("v5e-1"), 1.0)
    assert alone.collectives == 0


def test_a_progressive_run_is_the_sum_of_its_stages(found):
    """A quarter of the steps costs half of the last stage's, another three quarters of it."""
    cycles = [PROGRAM.cycles // 2, PROGRAM.cycles * 3 // 4, PROGRAM.cycles]
    stages = tuple(Stage(end, size, 10.0, 0.0, 0.0, 0.2) for end, size in ((9_000, 50), (18_000, 75), (36_000, 100)))
    programs = [dataclasses.replace(PROGRAM, cycles=number) for number in cycles]
    hparams = dataclasses.replace(NUMBERS, stages=stages)
    sum_of_three = estimating.estimate(programs, EVALUATION, hparams, parse_slice("v3-32"), 2.0)
    seconds = 9_000 * (0.04 + 0.0015) + 9_000 * (0.06 + 0.0015) + 18_000 * 0.0815
    assert sum_of_three.hours == pytest.approx((seconds + 30 * 0.8) / 3600)
    assert sum_of_three.step == pytest.approx(seconds / 36_000)
    assert sum_of_three.images_per_second == pytest.approx(1024 * 36_000 / seconds)
    # The first stage is the fastest and needs the most input, of 900 us and 2.5 ns a pixel an image, on four hosts.
    assert sum_of_three.cpus_per_host == pytest.approx(1024 / 0.0415 * (0.9e-3 + 2.5e-9 * 2500) / 4)
