"""Compiles a network's step in a process of its own that is ended after a while, as a compiler cannot be interrupted.

The child reads the configuration file again, because the file may add networks to the table.
"""

import multiprocessing

from pipeline.model.scaling_search import Cost
from pipeline.model.variants import ScaledVariant
from pipeline.planning.dataset import DatasetSize
from pipeline.trials import configuration
from pipeline.trials.costs import Unaffordable, compiled_cycles


def limited(train: str, overrides: tuple[str, ...], sizes: DatasetSize, minutes: float) -> Cost:
    """Returns the compiled cost with a limit on the time of each compilation.

    Args:
      train: The configuration file of the trials.
      overrides: Overrides of its keys.
      sizes: The sizes of the dataset.
      minutes: The limit, of the start of a process and the compilation.
    """

    def cost(variant: ScaledVariant) -> float:
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # its end kills the process
            waiting = pool.apply_async(_cycles, (train, overrides, sizes, str(variant)))
            try:
                return waiting.get(60 * minutes)
            except multiprocessing.TimeoutError as error:
                raise Unaffordable(f"its step did not compile within {minutes:g} minutes") from error

    return cost


def _cycles(train: str, overrides: tuple[str, ...], sizes: DatasetSize, variant: str) -> float:
    config = configuration.read(train, overrides)
    return compiled_cycles(config, sizes)(ScaledVariant.parse(variant))
