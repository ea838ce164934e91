"""Pareto fronts of accuracy over cost, and the hypervolume below them.

A network is on the front if no other is as accurate at a lower cost, or more accurate at the same. The hypervolume is the area
that the front dominates (Zitzler and Thiele, PPSN 1998): between a front, the accuracy 0 and a reference cost.
"""

import itertools
from collections.abc import Sequence

Point = tuple[float, float]  # cost, accuracy


def front(points: Sequence[Point]) -> list[Point]:
    """Returns the points that no other dominates, by rising cost; equal points once."""
    found: list[Point] = []
    for cost, accuracy in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not found or accuracy > found[-1][1]:
            found.append((cost, accuracy))
    return found


def hypervolume(points: Sequence[Point], reference: float) -> float:
    """Returns the area that points dominate, as a share of the area of accuracy 1 up to the reference cost.

    Args:
      points: Costs and accuracies. Points that cost more than the reference dominate nothing.
      reference: The reference cost.
    """
    area = 0.0
    ends = [*front([point for point in points if point[0] < reference]), (reference, 0.0)]
    for (cost, accuracy), (next_cost, _) in itertools.pairwise(ends):
        area += (next_cost - cost) * accuracy
    return area / reference
