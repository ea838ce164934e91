"""Plans set side by side, from figures made by hand."""

import dataclasses

from pipeline.configuration.hyperparameters import Hyperparameters
from pipeline.configuration.stages import Stage
from pipeline.planning import report
from pipeline.planning.estimate import Estimate
from pipeline.planning.program import Program
from pipeline.planning.slices import GIB, parse_slice

STEP = Program(
    fits=True,
    memory=4 * GIB,
    memory_limit=16 * GIB,
    largest=[],
    cycles=64_000_000,
    cycles_by_kind={},
    collectives={},
    collective_bytes=0,
    compile_seconds=1.0,
)
TOO_LARGE = dataclasses.replace(STEP, fits=False, memory=20 * GIB, cycles=0)
ESTIMATE = Estimate(
    step=0.1,
    collectives=0.0,
    images_per_second=10_240.4,
    images_per_second_per_chip=640.0,
    evaluation=1.0,
    hours=12.34,
    chip_hours=197.4,
    dollars=1_234.5,
    cpus_per_host=9.0,
)
NUMBERS = Hyperparameters(
    **{field.name: 1024 for field in dataclasses.fields(Hyperparameters)}
    | {"stages": (Stage(1024, 1024, 10.0, 0.0, 0.0, 0.2),)}
)


def test_slices_are_rows_and_what_does_not_fit_has_no_speed():
    fits = report.Plan(parse_slice("v3-32"), NUMBERS, [STEP], dataclasses.replace(STEP, memory=GIB), ESTIMATE)
    train_too_large = report.Plan(parse_slice("v3-8"), NUMBERS, [TOO_LARGE], STEP, None)
    evaluation_too_large = report.Plan(parse_slice("v5e-8"), NUMBERS, [STEP], TOO_LARGE, None)
    head, _, *rows = report.comparison([fits, train_too_large, evaluation_too_large]).splitlines()
    assert head.startswith("| slice | images on each device | train step | evaluation | million cycles")
    assert rows == [
        "| v3-32 | 32 | 4.00 of 16 GiB | 1.00 of 16 GiB | 2.000 | 10,240 | 12.3 | 197 | 1,234 |",
        "| v3-8 | 128 | 20.00 of 16 GiB: does not fit | 4.00 of 16 GiB | - | - | - | - | - |",
        "| v5e-8 | 128 | 4.00 of 16 GiB | 20.00 of 16 GiB: does not fit | 0.500 | - | - | - | - |",
    ]


def test_stages_are_lines_and_the_largest_decides_whether_it_fits():
    stages = tuple(Stage(end, size, 10.0, 0.0, 0.0, 0.2) for end, size in ((256, 512), (1024, 1024)))
    hparams = dataclasses.replace(NUMBERS, stages=stages)
    small = dataclasses.replace(STEP, memory=GIB, cycles=16_000_000)
    plan = report.Plan(parse_slice("v3-32"), hparams, [small, STEP], small, ESTIMATE)
    lines = report.describe(plan).splitlines()
    assert "  stage 1       256 steps at 512 px: 1.00 GiB a device, 0.250 of the last stage's cycles" in lines
    assert "  stage 2       768 steps at 1024 px: 4.00 GiB a device, 1.000 of the last stage's cycles" in lines
    assert any(
        line.startswith("  work          1.625 million cycles an image") for line in lines
    )  # (16 + 3 * 64) / 4 / 32
    assert report.as_json(plan)["train"]["memory"] == 4 * GIB
    too_large = report.Plan(parse_slice("v3-32"), hparams, [small, TOO_LARGE], small, None)
    assert not too_large.fits
    assert "takes 20.00 GiB of 16.00 GiB" in report.shortfall(too_large)
