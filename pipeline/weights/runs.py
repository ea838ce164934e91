"""Reads the weights of a run of `pipeline.train` from its checkpoints.

The network, its classes and its preprocessing come from the checkpoint's metadata, never from flags. Parameters and BatchNorm
statistics come from the same set: both are averages, or both are raw.
"""

import dataclasses

from etils import epath
from ml_collections import ConfigDict

from pipeline.errors import ConfigError, DataError
from pipeline.model.scaling import architecture
from pipeline.runtime.checkpoint_reading import read_variables
from pipeline.weights.container import Weights
from pipeline.weights.metadata import EMA, RAW, Metadata, Preprocessing

NEWEST, BEST = "newest", "best"


@dataclasses.dataclass(frozen=True)
class RunWeights:
    """The weights of one checkpoint: the raw ones, and their moving averages if the run kept them."""

    raw: Weights
    ema: Weights | None

    def choose(self, kind: str | None = None) -> Weights:
        """Returns the weights of a kind, "ema" or "raw"; by default the averages if there are any.

        Raises:
          ConfigError: the run kept no averages.
        """
        if kind == EMA and self.ema is None:
            raise ConfigError(
                f"{self.raw.metadata.source} kept no moving averages: ask for the raw weights, --kind raw"
            )
        if kind == RAW or self.ema is None:
            return self.raw
        return self.ema


def is_run(workdir: str) -> bool:
    """Returns whether a folder, local or `gs://…`, is the directory of a run."""
    path = epath.Path(workdir)
    return (path / "checkpoints").exists() or (path / "metrics.jsonl").exists()


def read(workdir: str, checkpoint: str = NEWEST) -> RunWeights:
    """Reads a checkpoint of a run.

    Args:
      workdir: The run's folder, a local path or `gs://…`.
      checkpoint: "newest", "best" (by top-1 of the averages, or of the raw weights without them), or a step.

    Raises:
      ConfigError: `checkpoint` is none of these.
      DataError: the checkpoint is missing or damaged, or its tensors are not those of its network.
    """
    if checkpoint not in (NEWEST, BEST) and not checkpoint.isdecimal():
        raise ConfigError(f"--checkpoint={checkpoint} is neither newest, best nor a step")
    if not is_run(workdir):
        raise DataError(f"{workdir} is not a run of pipeline.train: it has no checkpoints")
    folder = f"{workdir.rstrip('/')}/{'best' if checkpoint == BEST else 'checkpoints'}"
    variables, run_metadata = read_variables(folder, int(checkpoint) if checkpoint.isdecimal() else None)
    metadata = _metadata(run_metadata, workdir, int(variables["step"]))
    raw = {"params": variables["params"], "batch_stats": variables["batch_stats"]}
    ema = variables.get("ema")
    return RunWeights(
        raw=Weights.from_variables(dataclasses.replace(metadata, kind=RAW), raw),
        ema=None if ema is None else Weights.from_variables(dataclasses.replace(metadata, kind=EMA), ema),
    )


def _metadata(run_metadata: dict, workdir: str, step: int) -> Metadata:
    try:
        config, class_names = ConfigDict(run_metadata["config"]), tuple(run_metadata["class_names"])
        network, bn_epsilon = architecture(config.model.variant), config.model.bn_epsilon
        return Metadata(
            variant=config.model.variant,
            num_classes=len(class_names),
            image_size=config.evaluation.get("image_size") or config.image_size or network.resolution,
            class_names=class_names,
            preprocessing=Preprocessing.of_config(config.data),
            source=workdir,
            step=step,
            bn_epsilon=network.family.bn_epsilon if bn_epsilon is None else bn_epsilon,
        )
    except (ConfigError, DataError) as error:
        raise DataError(f"the metadata of the checkpoint of step {step} in {workdir} do not hold: {error}") from error
    except (KeyError, AttributeError, TypeError) as error:
        raise DataError(
            f"the metadata of the checkpoint of step {step} in {workdir} are incomplete: {error}"
        ) from error
