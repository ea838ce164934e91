"""Names trials, writes their arguments and reads their outcomes.

A trial is one network trained once, as an ordinary run of the trainer in a folder of its own. The trainer writes
`results.json` at the end of a run. A run whose loss is not finite would fail again; `failed.json` records it. Parts of a study
that need the same network with the same seed share one trial.
"""

import dataclasses
import hashlib
import json
import re

from etils import epath

from pipeline.errors import DataError
from pipeline.host.whole_files import write_whole
from pipeline.model.variants import ScaledVariant

TRIALS = "trials"
_RESULTS, _FAILED = "results.json", "failed.json"
_HASHED = 12  # digits


@dataclasses.dataclass(frozen=True)
class Trial:
    """A network and a seed.

    Attributes:
      variant: The network, with its resolution.
      seed: The seed of the run.
      group: The folder of trials that share their configuration, within the study's.
    """

    variant: ScaledVariant
    seed: int
    group: str = TRIALS

    @property
    def name(self) -> str:
        """The name of the trial's folder, such as "mini0_depth1.2_resolution28-seed0".

        Stages that the variant spells out are hashed, as their text is too long for the name of a folder.
        """
        row, slash, stages = self.variant.name.partition("/")
        digest = f"-{hashlib.sha256(stages.encode()).hexdigest()[:_HASHED]}" if slash else ""
        scaled = re.sub("[:,]", "_", str(self.variant).removeprefix(self.variant.name)).replace("=", "")
        return f"{row}{digest}{scaled}-seed{self.seed}"

    def workdir(self, study: epath.Path) -> epath.Path:
        """Returns the folder of the run."""
        return study / self.group / self.name

    def overrides(self, common: tuple[str, ...]) -> list[str]:
        """Returns the arguments of `pipeline.train` besides --config and --workdir."""
        own = (f"seed={self.seed}", f"model.variant={self.variant}", f"image_size={self.variant.resolution}")
        return [f"--config.{override}" for override in (*common, *own)]

    def __str__(self) -> str:
        return f"{self.variant}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
      top1: Top-1 accuracy of the averaged weights, or of the raw ones if the run keeps no average; None if it failed.
      problem: Why it failed; None if it did not.
    """

    top1: float | None
    problem: str | None = None


def outcome_of_ended(trial: Trial, study: epath.Path) -> Outcome:
    """Returns how a trial that has ended did so.

    Raises:
      DataError: its files cannot be read, are of another run, or are gone.
    """
    found = outcome(trial, study)
    if found is None:
        raise DataError(f"{trial.workdir(study)} had results and has none now: something removed them")
    return found


def outcome(trial: Trial, study: epath.Path) -> Outcome | None:
    """Returns how a trial ended; None if it has not ended.

    Raises:
      DataError: the folder's files cannot be read, or are of another run.
    """
    workdir = trial.workdir(study)
    results, failed = workdir / _RESULTS, workdir / _FAILED
    path = results if results.exists() else failed
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        if path == failed:
            return Outcome(None, str(content["problem"]))
        evaluation, trained = content["evaluation"], content["config"]
        found = Trial(ScaledVariant.parse(trained["model"]["variant"]), trained["seed"], trial.group)
        top1 = float(evaluation["ema" if "ema" in evaluation else "raw"]["top1"])
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error}). Delete it and repeat the command"
        ) from error
    if found != trial:
        raise DataError(f"{path} is of the run {found}, not {trial}: move its folder away")
    return Outcome(top1)


def write_failure(trial: Trial, study: epath.Path, problem: str) -> None:
    """Records the failure of a trial that would fail again."""
    workdir = trial.workdir(study)
    workdir.mkdir(parents=True, exist_ok=True)
    write_whole(workdir / _FAILED, json.dumps({"problem": problem}) + "\n")
