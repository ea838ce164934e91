"""The steps of an experiment that a plan compiles: a train step for each stage, and the evaluation step."""

import dataclasses
import functools
from collections.abc import Callable

import jax

from pipeline.training.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of an experiment.

    Attributes:
      name: "train", or "train-171px" if there are several stages, or "evaluation".
      lower: lowers the step for the devices of the experiment's mesh, which takes seconds.
    """

    name: str
    lower: Callable[[], jax.stages.Lowered]


def steps_of(experiment: Experiment) -> list[Step]:
    """Returns the train steps in the order of their stages, and the evaluation step last."""
    stages = experiment.hparams.stages
    train = [
        Step(
            f"train-{stage.image_size}px" if len(stages) > 1 else "train",
            functools.partial(experiment.lower_train_step, stage),
        )
        for stage in stages
    ]
    return [*train, Step("evaluation", experiment.lower_eval_step)]
