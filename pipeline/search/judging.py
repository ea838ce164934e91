"""Judges a network before and after its trial: what it costs, whether a search may train it, and its reward.

A network that costs too much, does not fit the slice, or takes too long to compile, is not trained. It keeps its place among
the trials, with the reason and a reward of 0.
"""

import dataclasses
import functools
from collections.abc import Callable

from ml_collections import ConfigDict

from pipeline.errors import ConfigError
from pipeline.model.counting import Count, count_activations, count_architecture
from pipeline.model.scaling import architecture
from pipeline.model.scaling_search import Cost
from pipeline.model.variants import ScaledVariant
from pipeline.search.reward import Reward
from pipeline.trials.costs import Unaffordable
from pipeline.trials.trials import Outcome


@dataclasses.dataclass(frozen=True)
class Judge:
    """Knows costs, limits and the reward.

    Attributes:
      cost: The cost of one image in a network.
      num_classes: Number of classes, which counts depend on.
      target: The target cost.
      limits: `config.limits`.
      reward: The reward.
      counted: Whether a cost is counted, so that networks above the limit need no place among the trials.
    """

    cost: Cost
    num_classes: int
    target: float
    limits: ConfigDict
    reward: Reward
    counted: bool

    @classmethod
    def of(cls, config: ConfigDict, baseline: ScaledVariant, cost: Cost, num_classes: int, counted: bool) -> "Judge":
        """Returns the judge of a search; see the attributes.

        Raises:
          ConfigError: the baseline's own cost cannot be determined.
        """
        try:
            target = config.reward.target * cost(baseline)
        except Unaffordable as problem:
            raise ConfigError(f"the baseline {baseline} has no cost: {problem}") from problem
        reward = Reward(config.reward.form, target, config.reward.exponent)
        return cls(cost, num_classes, target, config.limits, reward, counted)

    @property
    def largest_cost(self) -> float:
        """The limit of the cost, which is also the reference of the hypervolume."""
        return self.limits.cost * self.target

    def count(self, variant: ScaledVariant) -> Count:
        """Returns the counted parameters and multiply-adds of a network."""
        return count_architecture(architecture(str(variant)), self.num_classes)

    def beyond(self, variant: ScaledVariant) -> str | None:
        """Returns which counted limit a network is beyond; None if it is within all."""
        limits, found = self.limits, {}
        if limits.parameters:
            found["parameters"] = (self.count(variant).params, limits.parameters)
        if limits.activations:
            found["activations"] = (count_activations(architecture(str(variant))), limits.activations)
        if self.counted:
            found["cost"] = (self.cost(variant), self.largest_cost)
        return next(
            (f"{name} {value:,.0f} above {most:,.0f}" for name, (value, most) in found.items() if value > most), None
        )

    def refusal(self, variant: ScaledVariant) -> tuple[float | None, str | None]:
        """Returns the cost of a network and why it is not trained: (cost, None) for one that is."""
        try:
            cost = self.cost(variant)
        except Unaffordable as problem:
            return None, str(problem)
        if cost > self.largest_cost:
            return cost, f"cost {cost:,.6g} above {self.largest_cost:,.6g}"
        return cost, None


@dataclasses.dataclass(frozen=True)
class Judged:
    """A network after its trial.

    Attributes:
      variant: The network.
      cost: Its cost; None if it has none, as it does not fit or was thrown away.
      outcome: How its trial ended, or why there was none.
      reward: 0 without an accuracy.
    """

    variant: ScaledVariant
    cost: float | None
    outcome: Outcome
    reward: float


def judged_by(
    judge: Judge, outcome_of: Callable[[ScaledVariant], Outcome | None]
) -> Callable[[ScaledVariant], Judged | None]:
    """Returns a function that judges a network; it returns None while the trial has not ended."""
    refusal = functools.cache(judge.refusal)

    def judged(variant: ScaledVariant) -> Judged | None:
        cost, problem = refusal(variant)
        outcome = outcome_of(variant) if problem is None else Outcome(None, problem)
        if outcome is None:
            return None
        reward = 0.0 if outcome.top1 is None or cost is None else judge.reward(outcome.top1, cost)
        return Judged(variant, cost, outcome, reward)

    return judged
