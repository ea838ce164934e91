"""Writes the commands of `launch/tpu_pod.sh` that train the trials of a study on pods.

Nothing is started here: a person or a script runs the commands. The runs write below the study's folder in a bucket.
Repeating the command of the study finds there which runs are finished.
"""

import hashlib
import shlex
from collections.abc import Callable, Sequence

from etils import epath

from pipeline.trials.trials import Trial

_HASHED = 8  # digits; enough to tell the trials of all studies apart, as names of slices are short


def lines(
    trials: Sequence[Trial], study: epath.Path, train: str, overrides: Callable[[Trial], tuple[str, ...]], kind: str
) -> list[str]:
    """Returns a command for each trial.

    Args:
      trials: The trials without an outcome.
      study: The folder of the study, in a bucket.
      train: The configuration file of the trials.
      overrides: Returns a trial's overrides of keys of that file.
      kind: How the names of the runs begin.
    """
    return [
        shlex.join(
            [
                "launch/tpu_pod.sh",
                "up",
                *(
                    "--config",
                    train,
                    "--name",
                    _name(trial, study, kind),
                    "--workdir",
                    str(trial.workdir(study)),
                    "--yes",
                ),
                "--",
                *trial.overrides(overrides(trial)),
            ]
        )
        for trial in trials
    ]


def _name(trial: Trial, study: epath.Path, kind: str) -> str:
    digest = hashlib.sha256(f"{study}/{trial.group}/{trial.name}".encode()).hexdigest()
    return f"{kind}-{digest[:_HASHED]}"
