"""Checks the configuration of a study and reads the configuration of its trials. Nothing is trained or measured here."""

import dataclasses
import json
import math
from typing import Any

from ml_collections import ConfigDict

from configs import scale
from pipeline import command
from pipeline.errors import ConfigError
from pipeline.model.scaling import architecture
from pipeline.model.variants import ScaledVariant
from pipeline.trials import configuration


@dataclasses.dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
      config: The study's configuration, with the structure of `configs/scale.py`.
      train_config: The trials' configuration, checked, with the overrides applied.
      baselines: The networks to scale, each with its resolution.
      cost: One of `costs.COSTS`.
    """

    config: ConfigDict
    train_config: ConfigDict
    baselines: tuple[ScaledVariant, ...]
    cost: str

    @classmethod
    def from_config(cls, config: ConfigDict | None, cost: str) -> "Study":
        """Checks a configuration and reads that of the trials.

        Raises:
          ConfigError: something is missing, unknown, or cannot work.
        """
        config = command.of_structure(config, scale, "configs/scale_fashion_mnist.py")
        _check_values(config)
        train_config = configuration.read(config.train, tuple(config.overrides))  # first: its file may add a variant
        baselines = [
            ScaledVariant.parse(text).scaled(resolution=architecture(text).resolution) for text in config.baselines
        ]
        return cls(config, train_config, tuple(baselines), cost)

    @property
    def within(self) -> float:
        """The largest relative distance of a cost from its budget. Any two costs are then within `config.tolerance`."""
        return self.config.tolerance / 2

    def identity(self) -> dict[str, Any]:
        """Returns everything that decides the study's results, as values that JSON can hold."""
        trained = json.loads(self.train_config.to_json_best_effort())
        return {"cost": self.cost, "study": json.loads(self.config.to_json()), "train": trained}


def _check_values(config: ConfigDict) -> None:
    search, comparison = config.search, config.comparison
    problems = []
    for name, values in {
        "search.step": [search.step],
        "search.slack": [search.slack],
        "tolerance": [config.tolerance],
        "search.times": [search.times],
        "comparison.times": comparison.times,
    }.items():
        if not all(isinstance(value, int | float) and math.isfinite(value) and value > 0 for value in values):
            problems.append(f"config.{name} must be above 0")
    for name, value, least in (
        ("search.seeds", search.seeds, 1),
        ("comparison.seeds", comparison.seeds, 1),
        ("search.candidates", search.candidates, 0),
        ("maps", config.maps, 0),
    ):
        if value < least:
            problems.append(f"config.{name} is {value}; expected {least} or more")
    for name, values in {"baselines": config.baselines, "comparison.times": comparison.times}.items():
        if not values or len(set(values)) < len(values):
            problems.append(f"config.{name} must not be empty or name anything twice")
    for times in (search.times, *comparison.times):
        if not problems and times <= 1:
            problems.append(f"a budget of {times:g} times the baseline's cost is not above the baseline")
    if problems:
        raise ConfigError("; ".join(problems))
