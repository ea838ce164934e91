"""`python -m pipeline.model`: prints all networks, one network block by block, or a search for scaling coefficients.

It only does arithmetic and starts no JAX backend.
"""

import argparse

from pipeline.errors import ConfigError
from pipeline.host import ending
from pipeline.model import scaling_search, tables
from pipeline.model.variants import ScaledVariant


def main() -> None:
    """Parses the flags and prints one table."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.model", description="Prints the networks.")
    parser.add_argument("--variant", help="print this network block by block, for example b3 or b0:phi=2")
    parser.add_argument("--search", metavar="VARIANT", help="list mixes of one true cost to scale this variant up by")
    parser.add_argument("--times", type=float, default=2.0, help="with --search: the budget, in costs of the variant")
    parser.add_argument("--num_classes", type=int, default=1000)
    parser.add_argument("--survival_probability", type=float, default=0.8)
    flags = parser.parse_args()
    try:
        print(_table(flags))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _table(flags: argparse.Namespace) -> str:
    if flags.variant is not None:
        return tables.block_table(flags.variant, flags.num_classes, flags.survival_probability)
    if flags.search is not None:
        baseline, cost = ScaledVariant.parse(flags.search), scaling_search.multiply_adds(flags.num_classes)
        budget = scaling_search.reachable(baseline, flags.times, cost).cost
        candidates = scaling_search.candidates(baseline, budget, cost)
        return tables.search_table(candidates, flags.num_classes, within=0.03)
    return tables.family_table(flags.num_classes)


if __name__ == "__main__":
    ending.leave(ending.outcome(main))
