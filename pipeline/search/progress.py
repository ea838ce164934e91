"""A search at work: which trial comes next, and what has been found so far.

All courses share their trials: a network that two of them propose is trained once. When all have ended, networks spread over
the ranking and the best ones are trained in full on the same split. At last the best ones and a network made by hand are
trained on the whole training split and tested. Everything follows from the configuration and the outcomes. A function that
is passed in says how a trial ended; nothing is trained here.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator

from pipeline.errors import ConfigError, TrainingError
from pipeline.model.variants import ScaledVariant
from pipeline.search.algorithms import ALGORITHMS
from pipeline.search.course import Course
from pipeline.search.fronts import hypervolume
from pipeline.search.judging import Judge, Judged, judged_by
from pipeline.search.rank_correlation import spearman
from pipeline.search.record import Findings
from pipeline.search.study import FINAL, FULL, PROXY, Study
from pipeline.trials.choosing import spread
from pipeline.trials.intervals import CONFIDENCE, mean_and_half_width
from pipeline.trials.trials import Outcome, Trial

# Of the network made by hand, relative to the baseline; and how near its multiply-adds should come.
_WIDTHS = [index / 50 for index in range(10, 151)]
_DEPTHS = (1.0, 0.5, 0.75, 1.25, 1.5, 2.0)
_NEAR = 0.03


class Search:
    """The state of a search.

    Attributes:
      study: The search.
      judge: The costs, the limits and the reward.
      courses: One for each algorithm and seed.
    """

    def __init__(self, study: Study, judge: Judge, outcome_of: Callable[[Trial], Outcome | None]):
        """Begins or continues a search.

        Args:
          study: The search.
          judge: The costs, the limits and the reward.
          outcome_of: Returns how a trial ended; None if it has not.

        Raises:
          ConfigError: no mutation can leave the baseline.
        """
        self.study, self.judge, self._outcome_of = study, judge, outcome_of
        config, self._begun, self._hands = study.config, set(), {}
        _check_ways_out(study, judge)
        self.courses = [
            Course(
                name,
                seed,
                ALGORITHMS[name](study.space, config.evolution),
                study.space,
                functools.cache(judge.beyond),
                trials=config.trials,
                in_flight=config.in_flight,
            )
            for name in config.algorithms
            for seed in config.seeds
        ]
        self._judged = judged_by(judge, lambda variant: outcome_of(self._proxy(variant)))

    def take(self) -> Trial | None:
        """Returns a trial to start now, each once; None if there is none before another one has ended, or at all."""
        for trial in self._ready():
            if trial not in self._begun and self._outcome_of(trial) is None:
                self._begun.add(trial)
                return trial
        return None

    def findings(self) -> Findings:
        """Returns all that has been found so far, as values that JSON can hold."""
        self.advance()
        finished = all(self._outcome_of(trial) is not None for trial in self._last_trials()) and self._searched()
        predicted, best = self._predicted(), self._best()
        winner = self._winner()
        return {
            "cost": self.study.cost,
            "target": self.judge.target,
            "largest_cost": self.judge.largest_cost,
            "space": self.study.space.size,
            "confidence": CONFIDENCE,
            "searches": [self._course_found(course) for course in self.courses],
            "full": [self._trained(each.variant, FULL, 1) | {"proxy": each.outcome.top1} for each in self._in_full()],
            "predicted": len(predicted),
            "spearman": self._spearman(predicted),
            "winner": str(winner.variant) if winner else None,
            "final": [
                self._trained(variant, FINAL, self.study.config.full.seeds) | {"by_hand": by_hand}
                for variant, by_hand in self._finalists(best)
            ],
            "finished": finished,
        }

    def winner(self) -> ScaledVariant:
        """Returns the network that the search found: of the best proxies, the one with the best reward in full.

        Raises:
          TrainingError: no network could be trained.
        """
        winner = self._winner()
        if winner is None:
            problem = next(
                (end.outcome.problem for end in self._ended() if end.outcome.problem), "none has been trained"
            )
            raise TrainingError(f"no network of the search could be trained; the first one: {problem}")
        return winner.variant

    def advance(self) -> None:
        """Proposes all networks that the known results allow."""
        for course in self.courses:
            course.advance(self._judged)

    def _ready(self) -> Iterator[Trial]:
        self.advance()
        longest = max(len(course.proposed) for course in self.courses)
        for index in range(longest):
            for course in self.courses:
                if index < len(course.proposed) and self._judged(course.proposed[index]) is None:
                    yield self._proxy(course.proposed[index])
        if self._searched():
            yield from self._last_trials()

    def _searched(self) -> bool:
        """Returns whether every trial of every course has ended."""
        return all(
            len(course.proposed) == self.study.config.trials and all(map(self._judged, course.proposed))
            for course in self.courses
        )

    def _proxy(self, variant: ScaledVariant) -> Trial:
        return Trial(variant, self.study.train_config.seed, PROXY)

    def _last_trials(self) -> list[Trial]:
        full = [self._runs(each.variant, FULL, 1) for each in self._in_full()]
        final = [
            self._runs(variant, FINAL, self.study.config.full.seeds) for variant, _ in self._finalists(self._best())
        ]
        return [trial for trials in (*full, *final) for trial in trials]

    def _runs(self, variant: ScaledVariant, group: str, seeds: int) -> list[Trial]:
        first = self.study.train_config.seed
        return [Trial(variant, first + seed, group) for seed in range(seeds)]

    def _ended(self) -> list[Judged]:
        """Returns every network with a result, once, in the order of the trials."""
        proposed = dict.fromkeys(variant for course in self.courses for variant in course.proposed)
        return [result for result in map(self._judged, proposed) if result is not None]

    def _trained_ones(self) -> list[Judged]:
        return [result for result in self._ended() if result.outcome.top1 is not None]

    def _best(self) -> list[Judged]:
        ranked = sorted(self._trained_ones(), key=lambda each: (-each.reward, each.cost, str(each.variant)))
        return ranked[: self.study.config.full.best] if self._searched() else []

    def _predicted(self) -> list[Judged]:
        """Returns networks that are evenly spread over the ranking by the proxies' accuracy."""
        if not (self._searched() and self.study.config.full.predicted):
            return []
        ranked = sorted(
            self._trained_ones(), key=lambda each: (-(each.outcome.top1 or 0.0), each.cost, str(each.variant))
        )
        return spread(ranked, self.study.config.full.predicted)

    def _in_full(self) -> list[Judged]:
        return list({each.variant: each for each in (*self._predicted(), *self._best())}.values())

    def _winner(self) -> Judged | None:
        rewards = {}
        for each in self._best():
            end = self._outcome_of(Trial(each.variant, self.study.train_config.seed, FULL))
            if end is not None and end.top1 is not None and each.cost is not None:
                rewards[each.variant] = self.judge.reward(end.top1, each.cost)
        best = self._best()
        return max(best, key=lambda each: rewards.get(each.variant, -1.0)) if best else None

    def _finalists(self, best: Iterable[Judged]) -> list[tuple[ScaledVariant, bool]]:
        found = [(each.variant, False) for each in best]
        return [*found, (self._by_hand(found[0][0]), True)] if found else []

    def _by_hand(self, like: ScaledVariant) -> ScaledVariant:
        """Returns the baseline scaled to a network's multiply-adds: by width alone if that comes near, else by depth too."""
        if like not in self._hands:
            wanted = self.judge.count(like).macs
            found = []
            for depth, width in itertools.product(_DEPTHS, _WIDTHS):
                variant = self.study.space.baseline.scaled(depth=depth, width=width)
                found.append((abs(self.judge.count(variant).macs / wanted - 1), abs(math.log(depth)), variant))
            near = [each for each in found if each[0] <= _NEAR]
            chosen = min(near, key=lambda each: (each[1], each[0])) if near else min(found, key=lambda each: each[:2])
            self._hands[like] = chosen[-1]
        return self._hands[like]

    def _spearman(self, predicted: list[Judged]) -> float | None:
        pairs = []
        for each in predicted:
            end = self._outcome_of(Trial(each.variant, self.study.train_config.seed, FULL))
            if end is not None and end.top1 is not None:
                pairs.append((each.outcome.top1, end.top1))
        return spearman(*zip(*pairs)) if pairs else None

    def _course_found(self, course: Course) -> Findings:
        rows, points, rewards = [], [], []
        for variant in course.proposed:
            result = self._judged(variant)
            if result is None:
                rows.append({"network": str(variant), "top1": None, "problem": None, "ended": False})
                continue
            if result.outcome.top1 is not None:
                points.append((result.cost, result.outcome.top1))
            rewards.append(result.reward)
            rows.append(
                {
                    "network": str(variant),
                    "cost": result.cost,
                    "parameters": self.judge.count(variant).params,
                    "macs": self.judge.count(variant).macs,
                    "top1": result.outcome.top1,
                    "problem": result.outcome.problem,
                    "reward": result.reward,
                    "best_reward": max(rewards),
                    "hypervolume": hypervolume(points, self.judge.largest_cost),
                    "ended": True,
                }
            )
        return {"algorithm": course.algorithm, "seed": course.seed, "trials": rows}

    def _trained(self, variant: ScaledVariant, group: str, seeds: int) -> Findings:
        trials = self._runs(variant, group, seeds)
        ends = {str(trial.seed): self._outcome_of(trial) for trial in trials}
        top1 = {seed: end.top1 for seed, end in ends.items() if end is not None and end.top1 is not None}
        mean, half_width = mean_and_half_width(list(top1.values())) if top1 else (None, None)
        count = self.judge.count(variant)
        return {
            "network": str(variant),
            "parameters": count.params,
            "macs": count.macs,
            "top1": top1,
            "mean": mean,
            "half_width": half_width,
            "problems": sorted({end.problem for end in ends.values() if end is not None and end.problem is not None}),
        }


def _check_ways_out(study: Study, judge: Judge) -> None:
    space = study.space
    ways = space.neighbours(space.base_stages)
    if not ways or space.size == 1:
        raise ConfigError(f"no mutation can leave {space.baseline}: each choice of config.space has one value")
    problems = [judge.beyond(space.variant(stages)) for stages in ways]
    if all(problems):
        raise ConfigError(f"no mutation of {space.baseline} is within config.limits; the first one has {problems[0]}")
