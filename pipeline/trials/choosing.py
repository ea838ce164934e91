"""Chooses a few of many in a fixed way."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def spread(items: Sequence[T], at_most: int) -> list[T]:
    """Returns at most `at_most` items, evenly spread from the first to the last."""
    if len(items) <= at_most:
        return list(items)
    if at_most == 1:
        return list(items[:1])
    return [items[round(index * (len(items) - 1) / (at_most - 1))] for index in range(at_most)]
