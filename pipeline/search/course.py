"""The course of one search: which networks it proposes, in order, by what it knows of the earlier ones.

Proposal i is a function of the algorithm's seed, of i, and of the results of the proposals up to i - in_flight. It does not
depend on which trial ends first, so a search that was stopped, or that runs its trials side by side, comes to the same trials.
"""

import random
from collections.abc import Callable

from pipeline.errors import ConfigError
from pipeline.model.variants import ScaledVariant
from pipeline.search.algorithms import Algorithm
from pipeline.search.judging import Judged
from pipeline.search.space import Space, Stages

_DRAWS = 500  # of one proposal that is within the limits and new


class Course:
    """A search as far as it has come.

    Attributes:
      algorithm: The name of the algorithm.
      seed: Its seed.
      proposed: The networks proposed so far.
    """

    def __init__(
        self,
        algorithm: str,
        seed: int,
        asked: Algorithm,
        space: Space,
        beyond: Callable[[ScaledVariant], str | None],
        *,
        trials: int,
        in_flight: int,
    ):
        """Begins a search.

        Args:
          algorithm: The name of the algorithm.
          seed: Its seed.
          asked: The algorithm.
          space: The space.
          beyond: Returns which limit a network is beyond; None for one that may be proposed.
          trials: The number of proposals.
          in_flight: Proposals whose result need not be known when the next one is made.
        """
        self.algorithm, self.seed, self.proposed = algorithm, seed, []
        self._asked, self._space, self._beyond = asked, space, beyond
        self._trials, self._in_flight, self._told = trials, in_flight, 0
        self._stages: list[Stages] = []

    def advance(self, judged: Callable[[ScaledVariant], Judged | None]) -> None:
        """Proposes all networks that the known results allow.

        Args:
          judged: Returns the result of a network; None while it is not known.

        Raises:
          ConfigError: the algorithm proposes nothing within the limits.
        """
        while len(self.proposed) < self._trials:
            while self._told <= len(self.proposed) - self._in_flight:
                result = judged(self.proposed[self._told])
                if result is None:
                    return
                self._asked.tell(self._stages[self._told], result.reward)
                self._told += 1
            stages = self._propose()
            self._stages.append(stages)
            self.proposed.append(self._space.variant(stages))

    def _propose(self) -> Stages:
        """Returns a new network within the limits; one that was proposed before if no draw gives a new one."""
        rng = random.Random(f"{self.algorithm}/{self.seed}/{len(self.proposed)}")
        known, repeated, problem = {*self._stages}, None, None
        for _ in range(_DRAWS):
            stages = self._asked.ask(rng)
            if stages in known:
                repeated = stages
            elif (problem := self._beyond(self._space.variant(stages))) is None:
                return stages
        if repeated is None:
            raise ConfigError(
                f"none of {_DRAWS} networks that {self.algorithm} drew is within config.limits; the last one has {problem}"
            )
        return repeated
