"""The algorithms that propose networks: one module each. `ALGORITHMS` has them by the names of `config.algorithms`.

A new algorithm is a module with a class that follows `Algorithm`, and a line here.
"""

import random
from collections.abc import Callable
from typing import Protocol

from ml_collections import ConfigDict

from pipeline.search.algorithms.evolution import Evolution
from pipeline.search.algorithms.random_search import RandomSearch
from pipeline.search.space import Space, Stages


class Algorithm(Protocol):
    """Proposes networks and learns their rewards. Its state follows from what it was told, in that order, and nothing else."""

    def ask(self, rng: random.Random) -> Stages:
        """Proposes a network. It may be asked again, with further draws, if the proposal cannot be taken.

        A search may ask for several networks before it tells the reward of the first.
        """
        ...

    def tell(self, stages: Stages, reward: float) -> None:
        """Takes the reward of a network that it proposed. A network that could not be trained has 0."""
        ...


ALGORITHMS: dict[str, Callable[[Space, ConfigDict], Algorithm]] = {
    "evolution": Evolution,
    "random": RandomSearch,
}
