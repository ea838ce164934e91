"""The flags that all studies share, and what they mean together."""

import dataclasses
import importlib
from collections.abc import Mapping

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from pipeline import command
from pipeline.errors import ConfigError
from pipeline.planning.dataset import DatasetSize
from pipeline.trials.costs import COSTS
from pipeline.trials.running import Machine


@dataclasses.dataclass(frozen=True)
class StudyFlags:
    """The flags of a study.

    Attributes:
      quick_config: The module of the configuration that --quick stands for.
    """

    quick_config: str
    _config: flags.FlagHolder[ConfigDict]
    _workdir: flags.FlagHolder[str | None]
    _quick: flags.FlagHolder[bool]
    _cost: flags.FlagHolder[str]
    _parallel: flags.FlagHolder[int]
    _gpus: flags.FlagHolder[list[str]]
    _launch: flags.FlagHolder[bool]

    @classmethod
    def define(cls, quick_config: str, cost_for: str) -> "StudyFlags":
        """Defines the flags.

        Args:
          quick_config: See the attribute.
          cost_for: What the cost is for, in the help of --cost.
        """
        return cls(
            quick_config,
            command.define_config(),
            command.define_workdir(),
            flags.DEFINE_bool("quick", False, "A small study of digits, in place of --config."),
            flags.DEFINE_enum(
                "cost", "macs", COSTS, f"{cost_for}: multiply-adds, compiled TPU cycles, or seconds on this machine."
            ),
            flags.DEFINE_integer("parallel", 1, "Number of trials that run at a time.", lower_bound=1),
            flags.DEFINE_list("gpus", [], "The numbers of GPUs, one for each trial that runs at a time."),
            flags.DEFINE_bool(
                "launch", False, "Print commands that train the trials on pods instead of training them here."
            ),
        )

    @property
    def cost(self) -> str:
        return self._cost.value

    @property
    def launch(self) -> bool:
        return self._launch.value

    def config(self) -> ConfigDict | None:
        """Returns the configuration of the study, not yet checked.

        Raises:
          ConfigError: both --quick and --config are given.
        """
        if not self._quick.value:
            return self._config.value
        if self._config.value is not None:
            raise ConfigError("--quick brings its own study: leave out --config")
        return importlib.import_module(self.quick_config).get_config()

    def workdir(self) -> epath.Path:
        """Returns the folder of the study.

        Raises:
          ConfigError: it cannot be written, or not by those who should.
        """
        workdir = epath.Path(command.absolute_workdir(self._workdir.value))
        if str(workdir).startswith("gs://") != self.launch:
            raise ConfigError(
                "--launch and a --workdir in a bucket, gs://…, belong together: pods cannot write elsewhere"
            )
        return workdir

    def machine(self, environment: Mapping[str, str]) -> Machine:
        """Returns the resources of the trials.

        Args:
          environment: Their environment variables.

        Raises:
          ConfigError: there is not one GPU for each trial that runs at a time.
        """
        parallel, gpus = self._parallel.value, tuple(self._gpus.value)
        if gpus and len(gpus) != parallel:
            raise ConfigError(f"--gpus names {len(gpus)}, and --parallel={parallel} trials run at a time")
        return Machine(parallel, gpus, environment)


def open_data(train_config: ConfigDict) -> DatasetSize:
    """Returns the sizes of the trials' data. The digits are prepared if need be.

    Raises:
      ConfigError: the dataset is not prepared and its sizes are unknown.
    """
    from pipeline.data.preparation.datasets import ensure_digits
    from pipeline.planning.dataset import dataset_size

    if train_config.data.name == "digits":
        ensure_digits(train_config.data.data_dir)
    return dataset_size(train_config)
