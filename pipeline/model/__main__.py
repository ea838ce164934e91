"""`python -m pipeline.model`: prints all networks, one network block by block, or a search for scaling coefficients.

It only does arithmetic and starts no JAX backend.
"""

import argparse

from pipeline.errors import ConfigError
from pipeline.host import ending
from pipeline.model import tables
from pipeline.model.families import VARIANTS
from pipeline.model.scaling_search import search_coefficients


def main() -> None:
    """Parses the flags and prints one table."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.model", description="Prints the networks.")
    parser.add_argument("--variant", help="print this network block by block, for example b3")
    parser.add_argument("--search", metavar="VARIANT", help="compare ways to scale up the baseline of this variant")
    parser.add_argument("--budget", type=float, help="with --search: multiply-adds; default twice the baseline's")
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
        if flags.search not in VARIANTS:
            raise ConfigError(f"model variant {flags.search!r} is unknown; the variants are {', '.join(VARIANTS)}")
        baseline = VARIANTS[flags.search].baseline
        return tables.search_table(search_coefficients(baseline, flags.budget, num_classes=flags.num_classes))
    return tables.family_table(flags.num_classes)


if __name__ == "__main__":
    ending.leave(ending.outcome(main))
