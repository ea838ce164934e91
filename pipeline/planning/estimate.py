"""From the compiler's figures to images a second, hours and money.

Owns the calibration: the compiler's cycles are too many by a factor that is about the same for different networks, fitted to
the two published rates that can be matched best (`docs/plan_accuracy.md` has the figures and what they leave open).
Collectives have no cycles; their time is what the bytes need on the slice's links. Never compiles.
"""

import dataclasses

from pipeline.configuration.hyperparameters import Hyperparameters
from pipeline.planning.program import Program
from pipeline.planning.slices import Slice

# Time in truth over time by the compiler's cycles, by B2 and B5 on v3 cores at 32 images each: docs/plan_accuracy.md.
CALIBRATION = 0.75
COLLECTIVE_LATENCY_SECONDS = 10e-6  # of one all-reduce over a slice, however small

# CPU seconds of one image with AutoAugment on a 2-core x86-64 machine: a base, and a part for each output pixel.
INPUT_SECONDS, INPUT_SECONDS_PER_PIXEL = 0.9e-3, 2.5e-9


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a run on a slice takes. Times are seconds unless the name says otherwise."""

    step: float
    collectives: float  # the part of `step` in which devices wait for each other's sums
    images_per_second: float
    images_per_second_per_chip: float
    evaluation: float  # of one whole evaluation, of EMA and raw weights
    hours: float  # of the whole run
    chip_hours: float
    dollars: float
    cpus_per_host: float  # that decode and augment as fast as the devices train


def estimate(
    train: Program, evaluation: Program, hparams: Hyperparameters, tpu_slice: Slice, dollars_per_chip_hour: float
) -> Estimate:
    """Returns what a run takes whose steps compiled to `train` and `evaluation`."""
    collectives = _collective_seconds(train, tpu_slice)
    step = device_seconds(train, tpu_slice) + collectives
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
        cpus_per_host=rate / tpu_slice.hosts * (INPUT_SECONDS + INPUT_SECONDS_PER_PIXEL * hparams.image_size**2),
    )


def device_seconds(program: Program, tpu_slice: Slice) -> float:
    """Seconds of one step without collectives."""
    return program.cycles / tpu_slice.generation.clock_hz * CALIBRATION


def _collective_seconds(program: Program, tpu_slice: Slice) -> float:
    """Each byte of a sum leaves a device about twice, whatever the number of devices, as in a ring."""
    if tpu_slice.devices == 1:
        return 0.0
    moved = 2 * program.collective_bytes / tpu_slice.generation.link_bytes
    return moved + sum(program.collectives.values()) * COLLECTIVE_LATENCY_SECONDS
