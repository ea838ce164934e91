"""Turns the compiler's figures into images a second, hours and dollars.

The compiler overestimates cycles by about the same factor for different networks. The factor is fitted to two published
rates; `docs/plan_accuracy.md` has the figures and their limits. Collectives have no cycles. Their time follows from their
bytes and the slice's links.
"""

import dataclasses
from collections.abc import Sequence

from pipeline.configuration.hyperparameters import Hyperparameters
from pipeline.planning.program import Program
from pipeline.planning.slices import Slice

# Measured time over compiler-estimated time, from B2 and B5 on v3 with 32 images a core: docs/plan_accuracy.md.
CALIBRATION = 0.75
COLLECTIVE_LATENCY_SECONDS = 10e-6  # of one all-reduce over a slice, however small

# CPU seconds of an image with AutoAugment on a 2-core x86-64 machine: a constant, and a part for each output pixel.
INPUT_SECONDS, INPUT_SECONDS_PER_PIXEL = 0.9e-3, 2.5e-9


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The needs of a run on a slice. Times are in seconds unless the name says otherwise.

    `step`, `collectives` and the rates are means over the run, because its stages may differ.
    """

    step: float
    collectives: float  # the part of `step` that is spent on sums over devices
    images_per_second: float
    images_per_second_per_chip: float
    evaluation: float  # of one whole evaluation, of EMA and raw weights
    hours: float  # of the whole run
    chip_hours: float
    dollars: float
    cpus_per_host: float  # busy CPU cores that decode and augment as fast as the devices train


def estimate(
    train: Sequence[Program],
    evaluation: Program,
    hparams: Hyperparameters,
    tpu_slice: Slice,
    dollars_per_chip_hour: float,
) -> Estimate:
    """Returns the needs of a run whose steps compiled to `train`, a program for each stage, and `evaluation`."""
    waits = [_collective_seconds(program, tpu_slice) for program in train]
    steps = [device_seconds(program, tpu_slice) + wait for program, wait in zip(train, waits)]
    collectives, step = mean_over_run(waits, hparams), mean_over_run(steps, hparams)
    eval_step = device_seconds(evaluation, tpu_slice) + _collective_seconds(evaluation, tpu_slice)
    eval_batches = -(-hparams.num_eval_examples // hparams.eval_batch_size)
    one_evaluation = 2 * eval_batches * eval_step
    evaluations = -(-hparams.total_steps // max(1, round(hparams.evaluate_every_steps)))
    hours = (hparams.total_steps * step + evaluations * one_evaluation) / 3600
    rate = hparams.batch_size / step
    return Estimate(
        step=step,
        collectives=collectives,
        images_per_second=rate,
        images_per_second_per_chip=rate / tpu_slice.chips,
        evaluation=one_evaluation,
        hours=hours,
        chip_hours=hours * tpu_slice.chips,
        dollars=hours * tpu_slice.chips * dollars_per_chip_hour,
        cpus_per_host=max(
            hparams.batch_size / seconds * (INPUT_SECONDS + INPUT_SECONDS_PER_PIXEL * stage.image_size**2)
            for seconds, stage in zip(steps, hparams.stages, strict=True)
        )
        / tpu_slice.hosts,
    )


def mean_over_run(values: Sequence[float], hparams: Hyperparameters) -> float:
    """Returns the mean of a value of each stage over the steps of a run."""
    starts = [0, *(stage.end_step for stage in hparams.stages)]
    shares = ((stage.end_step - start) / hparams.total_steps for start, stage in zip(starts, hparams.stages))
    return sum(share * value for share, value in zip(shares, values, strict=True))


def device_seconds(program: Program, tpu_slice: Slice) -> float:
    """Returns the seconds of one step without collectives."""
    return program.cycles / tpu_slice.generation.clock_hz * CALIBRATION


def _collective_seconds(program: Program, tpu_slice: Slice) -> float:
    """Returns the seconds of the sums: as in a ring, each byte leaves a device about twice on any number of devices."""
    if tpu_slice.devices == 1:
        return 0.0
    moved = 2 * program.collective_bytes / tpu_slice.generation.link_bytes
    return moved + sum(program.collectives.values()) * COLLECTIVE_LATENCY_SECONDS
