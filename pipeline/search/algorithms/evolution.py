"""Regularised evolution: tournaments choose the parents, and the oldest network dies whatever its reward.

A population of random networks is trained first. Then each proposal mutates the best of a few members that are drawn with
replacement, and every network that joins the population ends the life of the oldest member. So a network survives only through
descendants that are good when they are trained again.

Source: Real et al., arXiv 1802.01548, section 3.2 and algorithm 1. Their experiments had 100 members and tournaments of 25 for
20,000 networks.
"""

import collections
import random

from ml_collections import ConfigDict

from pipeline.search.space import Space, Stages


class Evolution:
    """Evolves a population; see `Algorithm`.

    Attributes:
      population: The living members and their rewards, the oldest first.
    """

    def __init__(self, space: Space, settings: ConfigDict):
        self._space, self._size, self._tournament = space, settings.population, settings.tournament
        self.population: collections.deque[tuple[Stages, float]] = collections.deque(maxlen=settings.population)

    def ask(self, rng: random.Random) -> Stages:
        if len(self.population) < self._size:
            return self._space.draw(rng)
        drawn = [rng.choice(self.population) for _ in range(self._tournament)]
        parent, _ = max(drawn, key=lambda member: member[1])
        return self._space.mutate(parent, rng)

    def tell(self, stages: Stages, reward: float) -> None:
        self.population.append((stages, reward))  # a full deque drops its oldest member
