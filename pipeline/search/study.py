"""Checks the configuration of a search and reads the configurations of its trials. Nothing is trained or measured here.

There are three groups of trials. Proxies are short; trials in full have the length of `config.train`. Both hold out a part of
the training split and are judged by it. Only the final trials, once the search is over, see the whole training split and the
evaluation split.
"""

import dataclasses
import json
import re
from typing import Any

from ml_collections import ConfigDict

from configs import search
from pipeline import command
from pipeline.errors import ConfigError
from pipeline.model.scaling import architecture
from pipeline.model.variants import ScaledVariant
from pipeline.search.algorithms import ALGORITHMS
from pipeline.search.reward import FORMS
from pipeline.search.space import Space
from pipeline.trials import configuration
from pipeline.trials.trials import TRIALS, Trial

PROXY, FULL, FINAL = TRIALS, "full", "final"  # the groups of trials


@dataclasses.dataclass(frozen=True)
class Study:
    """A checked search.

    Attributes:
      config: The configuration, with the structure of `configs/search.py`.
      train_config: The configuration of the proxies, checked, with the overrides applied.
      space: The networks to choose from.
      cost: One of `costs.COSTS`.
    """

    config: ConfigDict
    train_config: ConfigDict
    space: Space
    cost: str

    @classmethod
    def from_config(cls, config: ConfigDict | None, cost: str) -> "Study":
        """Checks a configuration and reads those of the trials.

        Raises:
          ConfigError: something is missing, unknown, or cannot work.
        """
        config = command.of_structure(config, search, "configs/search_fashion_mnist.py")
        _check_values(config)
        common = tuple(config.overrides)
        whole = configuration.read(config.train, common)  # first: its file may add a variant
        split = whole.data.train_split
        if not re.fullmatch(r"\w+", split):
            raise ConfigError(
                f"config.data.train_split={split!r} of the trials is a part already; a search holds out a part of a whole split"
            )
        proxy = configuration.read(config.train, _merged(common, _held_out(split, config.held_out), config.proxy))
        baseline = ScaledVariant.parse(config.baseline)
        baseline = baseline.scaled(resolution=architecture(config.baseline).resolution)
        return cls(config, proxy, Space.around(baseline, config.space), cost)

    def overrides(self, trial: Trial) -> tuple[str, ...]:
        """Returns the overrides of a trial's group, without its own network and seed."""
        common = tuple(self.config.overrides)
        if trial.group == FINAL:
            return common
        split, _ = self.train_config.data.train_split.split("[")
        held_out = _held_out(split, self.config.held_out)
        return _merged(common, held_out, self.config.proxy if trial.group == PROXY else ())

    def identity(self) -> dict[str, Any]:
        """Returns everything that decides the results, as values that JSON can hold."""
        trained = json.loads(self.train_config.to_json_best_effort())
        return {"cost": self.cost, "search": json.loads(self.config.to_json()), "train": trained}


def _held_out(split: str, percent: int) -> tuple[str, ...]:
    """Returns the overrides by which a trial sees the training split alone: one part to train, the rest to be judged by."""
    kept = 100 - percent
    return (f"data.train_split={split}[:{kept}%]", f"data.eval_split={split}[{kept}%:]")


def _merged(*overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Returns overrides of which each key has its last value."""
    return tuple(
        f"{key}={value}" for key, value in dict(each.split("=", 1) for group in overrides for each in group).items()
    )


def _check_values(config: ConfigDict) -> None:
    problems = [
        f"config.{name} is {value}; expected {least} or more"
        for name, value, least in (
            ("trials", config.trials, 1),
            ("in_flight", config.in_flight, 1),
            ("evolution.population", config.evolution.population, 1),
            ("evolution.tournament", config.evolution.tournament, 1),
            ("limits.parameters", config.limits.parameters, 0),
            ("limits.activations", config.limits.activations, 0),
            ("full.predicted", config.full.predicted, 0),
            ("full.best", config.full.best, 1),
            ("full.seeds", config.full.seeds, 1),
        )
        if value < least
    ]
    if not 1 <= config.held_out <= 50:
        problems.append(f"config.held_out is {config.held_out}; expected 1 to 50 percent")
    if config.reward.form not in FORMS:
        problems.append(f"config.reward.form is {config.reward.form!r}; take one of {', '.join(FORMS)}")
    if not -10 <= config.reward.exponent <= 0:
        problems.append(f"config.reward.exponent is {config.reward.exponent}; expected -10 to 0, as cost is to be low")
    for name, value in {
        "reward.target": config.reward.target,
        "limits.compile_minutes": config.limits.compile_minutes,
    }.items():
        if not 0 < value < float("inf"):
            problems.append(f"config.{name} is {value}; expected more than 0")
    if not 1 < config.limits.cost < float("inf"):
        problems.append(f"config.limits.cost is {config.limits.cost}; expected more than 1, in target costs")
    for name, values in {"algorithms": config.algorithms, "seeds": config.seeds}.items():
        if not values or len(set(values)) < len(values):
            problems.append(f"config.{name} must not be empty or name anything twice")
    problems += [
        f"config.algorithms has {name!r}; take some of {', '.join(ALGORITHMS)}"
        for name in config.algorithms
        if name not in ALGORITHMS
    ]
    if any(type(seed) is not int for seed in config.seeds):
        problems.append("config.seeds must be whole numbers")
    problems += [
        f"config.{name} has {override!r:.60}; expected key=value"
        for name in ("overrides", "proxy")
        for override in config[name]
        if not isinstance(override, str) or "=" not in override
    ]
    if problems:
        raise ConfigError("; ".join(problems))
