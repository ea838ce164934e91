"""Random search: each proposal is drawn from the whole space. It is the yardstick for every other algorithm."""

import random

from ml_collections import ConfigDict

from pipeline.search.space import Space, Stages


class RandomSearch:
    """Draws networks; see `Algorithm`."""

    def __init__(self, space: Space, settings: ConfigDict):
        self._space = space

    def ask(self, rng: random.Random) -> Stages:
        return self._space.draw(rng)

    def tell(self, stages: Stages, reward: float) -> None:
        """Learns nothing."""
