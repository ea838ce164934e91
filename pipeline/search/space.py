"""The networks that a search may propose: MnasNet's factorised space around any baseline, as plain data.

A point of the space is a table of stages. Each stage chooses its kind of blocks, kernel, expansion, squeeze-and-excitation,
width and repeats by itself; all blocks of a stage are alike. Strides, stem and head are the baseline's. Choices without an
effect are not counted: a depthwise-separable block has no expansion, and widths that round to the same channels are one. So
two points are always two networks. Nothing here knows of accuracy or cost.

Source: Tan et al., arXiv 1807.11626, section 4.1.
"""

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from pipeline.errors import ConfigError
from pipeline.model import notation
from pipeline.model.scaling import round_filters, round_repeats
from pipeline.model.specs import StageSpec
from pipeline.model.variants import ScaledVariant, row

Stages = tuple[StageSpec, ...]
Options = dict[str, tuple]  # by the name of a field of StageSpec
_SEPARABLE_IGNORES = {"expand_ratio": 1, "se_ratio": 0.0}


@dataclasses.dataclass(frozen=True)
class Space:
    """A space of networks.

    Attributes:
      baseline: The network that the space is around, with its multipliers.
      options: What each stage may choose for each field.
    """

    baseline: ScaledVariant
    options: tuple[Options, ...]

    @classmethod
    def around(cls, baseline: ScaledVariant, choices: ConfigDict) -> "Space":
        """Builds the space around a baseline.

        Args:
          baseline: The network.
          choices: `config.space` of `configs/search.py`.

        Raises:
          ConfigError: there is nothing to choose from, or a choice cannot be.
        """
        given = row(baseline.name)
        if given.baseline.family.fixed_ends:
            raise ConfigError(
                f"{baseline} does not scale the repeats of its first and last stage; take another baseline"
            )
        _check(choices)
        family, width, depth = given.baseline.family, given.width * baseline.width, given.depth * baseline.depth

        def channels(filters: int) -> int:
            return round_filters(filters, width, limit_rounding_loss=family.limit_rounding_loss)

        def blocks(repeats: int) -> int:
            return round_repeats(repeats, depth)

        options = []
        for stage in given.baseline.stages:
            _check_stage(stage, baseline)
            widths = [max(1, round(stage.output_filters * factor)) for factor in choices.widths]
            repeats = [max(1, stage.repeats + added) for added in choices.repeats]
            options.append(
                {
                    "block": tuple(choices.operations),
                    "kernel_size": tuple(choices.kernels),
                    "expand_ratio": tuple(choices.expansions),
                    "se_ratio": tuple(map(float, choices.se_ratios)),
                    "output_filters": _distinct(widths, stage.output_filters, channels),
                    "repeats": _distinct(repeats, stage.repeats, blocks),
                }
            )
        return cls(baseline, tuple(options))

    @property
    def base_stages(self) -> Stages:
        """The baseline's own table, which need not be in the space."""
        return tuple(map(_canonical, row(self.baseline.name).baseline.stages))

    @property
    def size(self) -> int:
        """The number of networks in the space."""
        return math.prod(len(self.of_stage(index)) for index in range(len(self.options)))

    def of_stage(self, index: int) -> list[StageSpec]:
        """Returns everything that a stage can be."""
        strides, options = self.base_stages[index].strides, self.options[index]
        values = itertools.product(*options.values())
        return list(
            dict.fromkeys(_canonical(StageSpec(strides=strides, **dict(zip(options, each)))) for each in values)
        )

    def variant(self, stages: Stages) -> ScaledVariant:
        """Returns the network of a table, with the baseline's multipliers."""
        base = self.baseline.name.partition(notation.SEPARATOR)[0]
        return dataclasses.replace(self.baseline, name=f"{base}{notation.SEPARATOR}{notation.write(stages)}")

    def draw(self, rng: random.Random) -> Stages:
        """Returns a random point: every choice of every stage is drawn evenly and by itself."""
        return tuple(self._draw_stage(index, rng) for index in range(len(self.options)))

    def mutate(self, stages: Stages, rng: random.Random) -> Stages:
        """Returns a table that differs in one choice of one stage, drawn evenly among those that can differ.

        A stage that turns from depthwise separable into another kind draws its expansion and squeeze-and-excitation, which it
        did not have.

        Raises:
          ConfigError: no choice can differ.
        """
        changes = [
            (index, field, value)
            for index, stage in enumerate(stages)
            for field, values in self.options[index].items()
            for value in values
            if _differs(stage, field, value)
        ]
        if not changes:
            raise ConfigError(
                f"no mutation can leave {self.variant(stages)}: each choice of config.space has one value"
            )
        places = list(dict.fromkeys((index, field) for index, field, _ in changes))
        place = rng.choice(places)
        index, field = place
        value = rng.choice([value for *where, value in changes if tuple(where) == place])
        stage = stages[index]
        if stage.block == "separable" and field == "block":
            stage = dataclasses.replace(
                stage, **{name: rng.choice(self.options[index][name]) for name in _SEPARABLE_IGNORES}
            )
        changed = _canonical(dataclasses.replace(stage, **{field: value}))
        return (*stages[:index], changed, *stages[index + 1 :])

    def neighbours(self, stages: Stages) -> list[Stages]:
        """Returns every table that differs in one choice of one stage."""
        found = [
            (*stages[:index], _canonical(dataclasses.replace(stage, **{field: value})), *stages[index + 1 :])
            for index, stage in enumerate(stages)
            for field, values in self.options[index].items()
            for value in values
            if _differs(stage, field, value)
        ]
        return list(dict.fromkeys(found))

    def _draw_stage(self, index: int, rng: random.Random) -> StageSpec:
        chosen = {field: rng.choice(values) for field, values in self.options[index].items()}
        return _canonical(StageSpec(strides=self.base_stages[index].strides, **chosen))


def _canonical(stage: StageSpec) -> StageSpec:
    """Returns a stage without the choices that have no effect; see `specs.BLOCKS`."""
    if stage.block == "separable":
        return dataclasses.replace(stage, **_SEPARABLE_IGNORES)
    if stage.block == "fused_mbconv" and stage.expand_ratio == 1:
        return dataclasses.replace(stage, se_ratio=0.0)
    return stage


def _differs(stage: StageSpec, field: str, value: Any) -> bool:
    return _canonical(dataclasses.replace(stage, **{field: value})) != stage


def _distinct(values: Sequence[int], first: int, rounded: Callable[[int], int]) -> tuple[int, ...]:
    """Returns the values that round to different numbers; the baseline's own stands for its number."""
    ordered = sorted(dict.fromkeys(values), key=lambda value: (value != first, value))
    by_number = {}
    for value in ordered:
        by_number.setdefault(rounded(value), value)
    return tuple(sorted(by_number.values()))


def _check(choices: ConfigDict) -> None:
    domains = {
        "operations": lambda value: value in notation.WORDS,
        "kernels": lambda value: type(value) is int and value in (1, 3, 5, 7, 9),
        "expansions": lambda value: type(value) is int and 1 <= value <= 99,
        "se_ratios": lambda value: type(value) in (int, float) and 0 <= value <= 1,
        "widths": lambda value: type(value) in (int, float) and 0.1 <= value <= 10,
        "repeats": lambda value: type(value) is int and -10 <= value <= 10,
    }
    problems = [f"config.space.{name} is empty" for name in domains if not choices[name]]
    problems += [
        f"config.space.{name} has {value!r:.40}, which cannot be"
        for name, possible in domains.items()
        for value in choices[name]
        if not possible(value)
    ]
    if problems:
        raise ConfigError("the space holds no network: " + "; ".join(problems))


def _check_stage(stage: StageSpec, baseline: ScaledVariant) -> None:
    if stage.block not in notation.WORDS:
        raise ConfigError(
            f"{baseline} has blocks of the kind {stage.block!r}; a search knows {', '.join(notation.WORDS)}"
        )
