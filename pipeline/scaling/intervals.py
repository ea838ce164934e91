"""The mean of a few runs and its confidence interval, by Student's t.

Source of the distribution: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4, which are exact for
whole degrees of freedom.
"""

import math
import statistics
from collections.abc import Sequence

CONFIDENCE = 0.95


def mean_and_half_width(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float | None]:
    """Returns the mean and how far the interval reaches to each side of it; None for a single value, which says nothing."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    standard_error = statistics.stdev(values) / math.sqrt(len(values))
    return mean, t_quantile(len(values) - 1, confidence) * standard_error


def t_quantile(degrees: int, confidence: float) -> float:
    """Returns the t that |T| stays below with a probability, for T of Student's distribution with whole degrees of freedom."""
    low, high = 0.0, 1.0
    while _share_within(high, degrees) < confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _share_within(middle, degrees) < confidence else (low, middle)
    return high


def _share_within(t: float, degrees: int) -> float:
    """Returns the probability that |T| is below t."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = total = cosine if odd else 1.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    if not odd:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if degrees > 1 else 0.0))
