"""Spearman's rank correlation, with mean ranks for ties.

Source: Spearman, "The Proof and Measurement of Association between Two Things", 1904.
"""

import statistics
from collections.abc import Sequence


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Returns the correlation of the ranks, from -1 to 1; None for fewer than two pairs, or if all values of one are equal."""
    if len(one) < 2 or len(set(one)) == 1 or len(set(other)) == 1:
        return None
    return statistics.correlation(_ranks(one), _ranks(other))


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    first = {value: index for index, value in reversed(list(enumerate(ordered)))}
    return [first[value] + (ordered.count(value) - 1) / 2 for value in values]
