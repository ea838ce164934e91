"""Runs a study: it searches each baseline's coefficients, then compares the ways of scaling.

The configuration, the costs and the outcomes of the trials so far decide which networks are trained next. Nothing else does,
so the same command comes to the same findings however often a study is stopped. A function that is passed in trains the
trials.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from pipeline.errors import ConfigError, TrainingError
from pipeline.model.counting import count_architecture
from pipeline.model.scaling import architecture
from pipeline.model.scaling_search import Candidate, Cost, Equalized, candidates, identity, on_every_way, reachable
from pipeline.model.variants import ScaledVariant
from pipeline.scaling.study import Study
from pipeline.trials.choosing import spread
from pipeline.trials.intervals import CONFIDENCE, mean_and_half_width
from pipeline.trials.trials import Outcome, Trial, outcome, outcome_of_ended

Findings = dict[str, Any]
Train = Callable[[Sequence[Trial]], None]


@dataclasses.dataclass(frozen=True)
class Investigation:
    """A study at work.

    Attributes:
      study: What is to be found out.
      workdir: The folder of the study.
      cost: The cost of one image in a network.
      num_classes: Number of classes, which the reported numbers of parameters depend on.
      train: Trains trials until each has an outcome.
    """

    study: Study
    workdir: epath.Path
    cost: Cost
    num_classes: int
    train: Train

    def findings(self) -> Findings:
        """Trains what is left to train and returns the findings, as values that JSON can hold.

        Raises:
          ConfigError: a budget or a grid without candidates.
          TrainingError: no candidate of a baseline could be trained.
        """
        searches = [self._search(baseline) for baseline in self.study.baselines]
        self._train([trial for search in searches for trial in self._search_trials(search)])
        bests = [self._best(search) for search in searches]
        comparisons = [self._networks(*each) for each in zip(searches, bests)]
        self._train([trial for networks in comparisons for _, _, network in networks for trial in self._runs(network)])
        return {
            "cost": self.study.cost,
            "tolerance": self.study.config.tolerance,
            "confidence": CONFIDENCE,
            "baselines": [self._found(*each) for each in zip(searches, bests, comparisons)],
        }

    def _search(self, baseline: ScaledVariant) -> "_Search":
        settings = self.study.config.search
        budget = reachable(baseline, settings.times, self.cost).cost
        found = candidates(baseline, budget, self.cost, step=settings.step, tolerance=settings.slack)
        compared = [each for each in found if each.problem(self.study.within) is None]
        if not compared:
            raise ConfigError(
                f"of the {len(found)} mixes on the grid around {baseline} none has a true cost within "
                f"{self.study.within:.1%} of the budget: take a smaller config.search.step, or a larger config.tolerance"
            )
        problems = [(each, each.problem(self.study.within)) for each in found]
        left_out = [(each, problem) for each, problem in problems if problem is not None]
        chosen = spread(compared, settings.candidates) if settings.candidates else compared
        left_out += [(each, "config.search.candidates are enough") for each in compared if each not in chosen]
        return _Search(baseline, budget, chosen, left_out)

    def _search_trials(self, search: "_Search") -> list[Trial]:
        baseline = Equalized(search.baseline, self.cost(search.baseline), 0.0)
        return [
            *self._runs(baseline),
            *(
                trial
                for candidate in search.candidates
                for trial in self._runs(candidate.network, self.study.config.search.seeds)
            ),
        ]

    def _best(self, search: "_Search") -> Candidate:
        """Returns the candidate with the highest mean; among equals, the cheapest."""
        seeds = self.study.config.search.seeds
        trained = []
        for candidate in search.candidates:
            ends = self._outcomes(candidate.network, seeds)
            top1 = [end.top1 for end in ends if end.top1 is not None]
            if len(top1) == len(ends):
                mean, _ = mean_and_half_width(top1)
                trained.append((-mean, candidate.network.cost, str(candidate.network.variant), candidate))
        if not trained:
            problem = self._outcomes(search.candidates[0].network, seeds)[0].problem
            raise TrainingError(f"no candidate of {search.baseline} could be trained; the first one: {problem}")
        return min(trained, key=lambda each: each[:3])[-1]

    def _networks(self, search: "_Search", best: Candidate) -> list[tuple[str, float, Equalized]]:
        """Returns the way, the budget and the network of each comparison of a baseline."""
        searched = search.budget / self.cost(search.baseline)
        known = {}  # the networks trained already, by their layers and not by their names
        for variant in (search.baseline, *(each.network.variant for each in search.candidates)):
            known.setdefault(identity(variant), variant)
        return [
            (
                way,
                times,
                dataclasses.replace(network, variant=known.setdefault(identity(network.variant), network.variant)),
            )
            for times in self.study.config.comparison.times
            for way, network in on_every_way(
                search.baseline, times, self.cost, self.study.within, best.coefficients, searched
            ).items()
        ]

    def _train(self, trials: Sequence[Trial]) -> None:
        left = [trial for trial in dict.fromkeys(trials) if outcome(trial, self.workdir) is None]
        if left:  # by seed, so that trials that run together do not compile the same program
            self.train(sorted(left, key=lambda trial: trial.seed))

    def _runs(self, network: Equalized, seeds: int | None = None) -> list[Trial]:
        seeds = self.study.config.comparison.seeds if seeds is None else seeds
        return [Trial(network.variant, self.study.train_config.seed + seed) for seed in range(seeds)]

    def _outcomes(self, network: Equalized, seeds: int | None = None) -> list[Outcome]:
        return [outcome_of_ended(trial, self.workdir) for trial in self._runs(network, seeds)]

    def _found(self, search: "_Search", best: Candidate, networks: list[tuple[str, float, Equalized]]) -> Findings:
        seeds, cost = self.study.config.search.seeds, self.cost(search.baseline)
        return {
            "baseline": self._measured(Equalized(search.baseline, cost, 0.0)),
            "search": {
                "times": search.budget / cost,
                "best": best.coefficients._asdict(),
                "candidates": [
                    {**each.coefficients._asdict(), **self._measured(each.network, seeds)} for each in search.candidates
                ],
                "left_out": [
                    {**each.coefficients._asdict(), **self._described(each.network), "reason": reason}
                    for each, reason in search.left_out
                ],
            },
            "comparison": [
                {
                    "way": way,
                    "times": times,
                    "within_tolerance": abs(network.miss) <= self.study.within,
                    **self._measured(network),
                }
                for way, times, network in networks
            ],
        }

    def _described(self, network: Equalized) -> Findings:
        parameters = count_architecture(architecture(str(network.variant)), self.num_classes).params
        return {
            "variant": str(network.variant),
            "cost": network.cost,
            "off_budget": network.miss,
            "parameters": parameters,
        }

    def _measured(self, network: Equalized, seeds: int | None = None) -> Findings:
        ends = self._outcomes(network, seeds)
        top1 = [end.top1 for end in ends if end.top1 is not None]
        mean, half_width = mean_and_half_width(top1) if top1 else (None, None)
        problems = [end.problem for end in ends if end.problem is not None]
        return {
            **self._described(network),
            "top1": top1,
            "mean": mean,
            "half_width": half_width,
            "problems": problems,
        }


@dataclasses.dataclass
class _Search:
    """A baseline's budget, its candidates, and those that are not trained, each with the reason."""

    baseline: ScaledVariant
    budget: float
    candidates: list[Candidate]
    left_out: list[tuple[Candidate, str]]


def as_json(findings: Findings) -> str:
    """Returns the findings as text; equal findings give equal text."""
    return json.dumps(findings, indent=1) + "\n"
