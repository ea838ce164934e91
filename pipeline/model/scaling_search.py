"""The paper's grid search for scaling coefficients: how to divide a budget among depth, width and resolution.

It lists every combination on a grid whose cost meets the budget. Each is built and counted, because rounding widths and repeats
moves the true cost away from alpha * beta**2 * gamma**2. The best combination is a question of accuracy: pass a `score` that
trains or otherwise judges an architecture, as the authors did. Nothing here trains.

Source: [paper] Tan and Le, arXiv 1905.11946, section 3.3.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

from pipeline.errors import ConfigError
from pipeline.model.counting import Count, count_architecture
from pipeline.model.scaling import Coefficients, compound_scale, scale_baseline
from pipeline.model.specs import Architecture, Baseline


class Candidate(NamedTuple):
    """One combination of coefficients.

    Attributes:
      coefficients: alpha, beta and gamma.
      architecture: The baseline scaled by them, phi 1.
      count: The architecture's true costs.
      score: The result of `score` for the architecture; None without it.
    """

    coefficients: Coefficients
    architecture: Architecture
    count: Count
    score: float | None


def search_coefficients(
    baseline: Baseline,
    macs_budget: float | None = None,
    *,
    score: Callable[[Architecture], float] | None = None,
    step: float = 0.05,
    tolerance: float = 0.05,
    num_classes: int = 1000,
) -> list[Candidate]:
    """Compares all grid points that meet the constraint alpha * beta**2 * gamma**2 = budget / cost of the baseline.

    Args:
      baseline: The network to scale.
      macs_budget: Multiply-accumulates for one image; None: twice the baseline's, as in the paper.
      score: Judges an architecture; higher is better. The authors trained each.
      step: Step of the grid, which starts at 1 in each dimension.
      tolerance: Relative tolerance of the constraint; the paper's own choice misses 2 by 0.04.
      num_classes: Number of outputs of the classifier, for the counts.

    Returns:
      The candidates, best first. Without `score` those that meet the constraint most closely come first.

    Raises:
      ConfigError: If the budget is below the cost of the baseline, or no point of the grid meets it.
    """
    unit = count_architecture(scale_baseline(baseline, 1.0, 1.0, baseline.resolution), num_classes).macs
    budget = 2 * unit if macs_budget is None else macs_budget
    ratio = budget / unit
    if ratio < 1:
        raise ConfigError(
            f"a budget of {budget:,.0f} multiply-accumulates is below the baseline's {unit:,}; "
            "scaling only makes networks larger"
        )
    axis = [1 + i * step for i in range(int((ratio * (1 + tolerance) - 1) / step + 1e-9) + 1)]
    candidates = []
    for values in itertools.product(axis, repeat=3):
        coefficients = Coefficients(*(round(value, 6) for value in values))
        if abs(coefficients.cost_ratio / ratio - 1) > tolerance:
            continue
        architecture = compound_scale(baseline, 1.0, coefficients)
        count = count_architecture(architecture, num_classes)
        judged = None if score is None else score(architecture)
        candidates.append(Candidate(coefficients, architecture, count, judged))
    if not candidates:
        raise ConfigError(
            f"no mix on a grid of step {step} costs {ratio:.3g} times the baseline within {tolerance:.0%}; "
            "take a smaller step or a larger tolerance"
        )
    if score is None:
        return sorted(candidates, key=lambda candidate: abs(candidate.coefficients.cost_ratio - ratio))
    return sorted(candidates, key=lambda candidate: candidate.score, reverse=True)
