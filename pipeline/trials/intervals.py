"""The mean of a few runs and its confidence interval, by Student's t distribution: computed, written and compared.

The distribution is computed by sums that are exact for whole degrees of freedom.

Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
"""

import math
import statistics
from collections.abc import Sequence

CONFIDENCE = 0.95


def mean_and_half_width(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float | None]:
    """Returns the mean and half the interval's width. The latter is None for a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    standard_error = statistics.stdev(values) / math.sqrt(len(values))
    return mean, t_quantile(len(values) - 1, confidence) * standard_error


def percent(mean: float | None, half_width: float | None) -> str:
    """Returns a mean accuracy in percent with its interval, such as "93.54 ± 0.12"; "-" if there is none."""
    if mean is None:
        return "-"
    return f"{100 * mean:.2f}" + ("" if half_width is None else f" ± {100 * half_width:.2f}")


def doubt(difference: float, half_widths: Sequence[float | None]) -> str:
    """Says whether the difference of two means may be chance: whether it is within their intervals, combined.

    Args:
      difference: The difference of the means.
      half_widths: Half the width of each mean's interval; None for a mean of one run.
    """
    known = [width for width in half_widths if width is not None]
    if len(known) < len(half_widths):
        return "one run of each says nothing of chance"
    return (
        "which is within the intervals" if math.hypot(*known) >= abs(difference) else "which is more than the intervals"
    )


def t_quantile(degrees: int, confidence: float) -> float:
    """Returns the t with P(|T| < t) = confidence, where T has Student's distribution with `degrees` degrees of freedom."""
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
