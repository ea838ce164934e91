"""Trials on pods: a line of `launch/tpu_pod.sh` for each, to be given by a person or a script.

Nothing is started here. The runs write below the study's folder in a bucket, and the same command of `pipeline.scale` finds
there which are finished.
"""

import hashlib
import shlex
from collections.abc import Sequence

from etils import epath

from pipeline.scaling.trials import Trial

_HASHED = 8  # digits that tell the trials of all studies apart; names of slices are short


def lines(trials: Sequence[Trial], study: epath.Path, train: str, overrides: tuple[str, ...]) -> list[str]:
    """Returns a command for each trial.

    Args:
      trials: Those without an outcome.
      study: The folder of the study, in a bucket.
      train: The configuration file of the trials.
      overrides: Of its keys.
    """
    return [
        shlex.join(
            [
                "launch/tpu_pod.sh",
                "up",
                *("--config", train, "--name", _name(trial, study), "--workdir", str(trial.workdir(study)), "--yes"),
                "--",
                *trial.overrides(overrides),
            ]
        )
        for trial in trials
    ]


def _name(trial: Trial, study: epath.Path) -> str:
    digest = hashlib.sha256(f"{study}/{trial.name}".encode()).hexdigest()
    return f"scale-{digest[:_HASHED]}"
