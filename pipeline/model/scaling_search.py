"""Finds networks of equal cost: the candidates of a search, and the four ways of scaling.

Widths and repeats are rounded, so the cost of a network differs from alpha * beta**2 * gamma**2, for small networks by up to
a half. Networks of different cost cannot be compared. The resolution therefore compensates: each network is built as it will be
trained, and its input takes the whole number of pixels whose cost is closest to the budget. Networks that are still outside the
tolerance are named and not compared. `pipeline/scaling` trains the others.

Source: [paper] Tan and Le, arXiv 1905.11946, section 3.3.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator

from pipeline.errors import ConfigError
from pipeline.model.counting import count_architecture
from pipeline.model.scaling import architecture
from pipeline.model.variants import LARGEST_RESOLUTION, SMALLEST_RESOLUTION, Coefficients, ScaledVariant

Cost = Callable[[ScaledVariant], float]  # of one image, in any unit; constant for a network

WAYS = ("depth", "width", "resolution", "compound")
_TRIED = 6  # at most this many costs are computed to bring a network to its budget
_NUDGES = [index / 50 for index in range(-20, 21)]  # offsets of an exponent
_MIN_GAMMA = 0.95  # 1 in the paper; less admits depth alone and width alone where they round up
_STEPS_ASIDE = (-3, -2, -1, 1, 2, 3)  # pixels; the budgets that may replace one
_LARGEST_STEP_ASIDE = 0.2  # relative to the budget
_OPTIONS = 24  # at most this many networks of a way are brought to the budget


@dataclasses.dataclass(frozen=True)
class Equalized:
    """A network whose resolution was chosen for its cost.

    Attributes:
      variant: The network, with its resolution.
      cost: The cost of one image, in the unit of the search.
      miss: Relative difference of the cost from the budget; negative if below.
    """

    variant: ScaledVariant
    cost: float
    miss: float


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A candidate of a search.

    Attributes:
      coefficients: The grid's alpha and beta; gamma is the factor by which the resolution really grew.
      network: The network, as close to the budget as whole pixels allow.
    """

    coefficients: Coefficients
    network: Equalized

    def problem(self, within: float) -> str | None:
        """Returns why this candidate is not compared with the others; None if it is."""
        if abs(self.network.miss) > within:
            return f"no whole number of pixels brings its cost within {within:.0%} of the budget"
        if self.coefficients.gamma < _MIN_GAMMA:
            return "rounding its depth and width takes so much that the image would have to shrink"
        return None


def multiply_adds(num_classes: int) -> Cost:
    """Returns the counted cost in multiply-adds."""

    @functools.cache
    def cost(variant: ScaledVariant) -> float:
        return float(count_architecture(architecture(str(variant)), num_classes).macs)

    return cost


def equalized(variant: ScaledVariant, budget: float, cost: Cost, nearby: int) -> Equalized:
    """Brings a network to a cost by its resolution alone.

    The cost grows roughly with the square of the resolution, in steps, as feature maps have whole sizes. A few corrections of
    a first guess lead to the budget. The neighbour on the other side of the budget is tried last.

    Args:
      variant: Its own resolution is ignored.
      budget: The target cost of one image.
      cost: The cost of a network.
      nearby: A first guess of the resolution, in pixels.

    Returns:
      The network at the resolution whose cost is closest; the smaller resolution of two equally close.
    """
    misses = {}

    def look(pixels: int) -> None:
        misses[pixels] = cost(variant.scaled(resolution=pixels)) / budget - 1

    pixels = _possible(nearby)
    while pixels not in misses and len(misses) < _TRIED:
        look(pixels)
        pixels = _possible(round(pixels / math.sqrt(1 + misses[pixels])))
    nearest = min(misses, key=lambda each: abs(misses[each]))
    beside = _possible(nearest - 1 if misses[nearest] > 0 else nearest + 1)
    if beside not in misses:
        look(beside)
    best = min(misses, key=lambda each: (abs(misses[each]), each))
    return Equalized(variant.scaled(resolution=best), (1 + misses[best]) * budget, misses[best])


def reachable(baseline: ScaledVariant, times: float, cost: Cost) -> Equalized:
    """Returns the baseline at the whole number of pixels whose cost is closest to `times` the baseline's.

    Its cost is the budget of a comparison. Scaling the resolution alone meets it exactly, and the other ways are brought
    to it.

    Raises:
      ConfigError: the budget is below the baseline's cost.
    """
    if not (math.isfinite(times) and times >= 1):
        raise ConfigError(
            f"a budget of {times:g} times the baseline's cost is below the baseline; scaling only makes networks larger"
        )
    return equalized(baseline, times * cost(baseline), cost, round(resolution_of(baseline) * math.sqrt(times)))


def candidates(
    baseline: ScaledVariant,
    budget: float,
    cost: Cost,
    *,
    step: float = 0.1,
    tolerance: float = 0.05,
) -> list[Candidate]:
    """Lists the mixes on a grid with alpha * beta**2 * gamma**2 = budget / baseline, each brought to the same true cost.

    Args:
      baseline: The network to scale, with its resolution.
      budget: The target cost of one image; see `reachable`.
      cost: The cost of a network.
      step: Step of the grid, which starts at 1 in each dimension.
      tolerance: Largest relative error of the constraint on the grid. The paper's own choice misses 2 by 0.04.

    Returns:
      The candidates by depth and width. Of mixes that round to the same network, the one nearest to the constraint.

    Raises:
      ConfigError: no point of the grid meets the budget, or the budget is not above the baseline.
    """
    times = budget / cost(baseline)
    if times <= 1:
        raise ConfigError(_not_above(baseline))
    if not (step > 0 and tolerance > 0):
        raise ConfigError(f"the grid has a step of {step:g} and a tolerance of {tolerance:g}; both must be above 0")
    axis = [1 + index * step for index in range(int((times * (1 + tolerance) - 1) / step + 1e-9) + 1)]
    pairs = dict.fromkeys(
        (round(alpha, 6), round(beta, 6))
        for alpha, beta, gamma in itertools.product(axis, repeat=3)
        if abs(Coefficients(alpha, beta, gamma).cost_ratio / times - 1) <= tolerance
    )
    if not pairs:
        raise ConfigError(
            f"no mix on a grid of step {step:g} costs {times:.3g} times the baseline within {tolerance:.0%}; "
            "take a smaller step or a larger tolerance"
        )
    pixels, found = resolution_of(baseline), {}
    for alpha, beta in pairs:
        guess = round(pixels * math.sqrt(times / (alpha * beta**2)))
        network = equalized(baseline.scaled(alpha, beta), budget, cost, guess)
        mix = Candidate(Coefficients(alpha, beta, resolution_of(network.variant) / pixels), network)
        found.setdefault(identity(network.variant), []).append(mix)
    return [min(mixes, key=lambda mix: abs(mix.coefficients.cost_ratio / times - 1)) for mixes in found.values()]


def on_every_way(
    baseline: ScaledVariant, times: float, cost: Cost, within: float, coefficients: Coefficients, searched: float
) -> dict[str, Equalized]:
    """Scales a baseline in each of the four ways to one budget.

    "depth", "width" and "resolution" scale one dimension alone; "compound" scales all by the coefficients. Repeats, widths and
    pixels are whole numbers, so few scalings of a small network meet a given budget. The budget taken is the one nearest to
    `times` that all four ways meet, out of those that the resolution alone can reach.

    Args:
      baseline: The network to scale, with its resolution.
      times: The budget, in costs of the baseline.
      cost: The cost of a network.
      within: Largest relative difference of a cost from the budget.
      coefficients: The coefficients of compound scaling.
      searched: The budget for which they were found, in costs of the baseline.

    Returns:
      A network for each of `WAYS`. If no budget is met by all, the nearest ones, with a `miss` above `within`.

    Raises:
      ConfigError: no number of pixels near the budget costs more than the baseline.
    """
    anchor, unit = reachable(baseline, times, cost), cost(baseline)
    pixels = resolution_of(anchor.variant)
    beside = [baseline.scaled(resolution=_possible(pixels + step)) for step in _STEPS_ASIDE]
    budgets = [anchor.cost, *sorted(map(cost, beside), key=lambda each: abs(each - anchor.cost))]
    found = []
    for budget in budgets:
        if unit < budget and abs(budget / anchor.cost - 1) <= _LARGEST_STEP_ASIDE:
            phi = math.log(budget / unit) / math.log(searched)
            found.append({way: on_way(way, baseline, budget, cost, within, coefficients, phi) for way in WAYS})
            if _worst(found[-1]) <= within:
                return found[-1]
    if not found:
        raise ConfigError(_not_above(baseline))
    return min(found, key=_worst)


def on_way(
    way: str,
    baseline: ScaledVariant,
    budget: float,
    cost: Cost,
    within: float,
    coefficients: Coefficients,
    phi: float,
) -> Equalized:
    """Scales a baseline in one way to a budget.

    For depth and for width, the multiplier is the one whose network needs the least correction by its resolution. For compound
    scaling, the multipliers are the nearest to those at phi that meet the budget.

    Args:
      way: One of `WAYS`.
      baseline: The network to scale, with its resolution.
      budget: The target cost of one image; see `reachable`.
      cost: The cost of a network.
      within: Largest relative difference of the cost from the budget.
      coefficients: The coefficients of compound scaling.
      phi: The exponent at which they give the budget.

    Returns:
      The network. Its `miss` is larger than `within` if no network of this way is nearer.
    """
    pixels, times = resolution_of(baseline), budget / cost(baseline)
    if way == "resolution":
        return equalized(baseline, budget, cost, round(pixels * math.sqrt(times)))
    gamma = 1.0
    if way == "compound":
        alpha, beta, gamma = coefficients
        options = itertools.product(_NUDGES, repeat=2)
        options = sorted(options, key=lambda nudges: abs(nudges[0]) + abs(nudges[1]))
        options = [(round(alpha ** (phi + one), 4), round(beta ** (phi + other), 4)) for one, other in options]
    else:
        multipliers = [round(times ** (1 + nudge), 4) for nudge in _NUDGES]
        options = [(each, 1.0) if way == "depth" else (1.0, round(math.sqrt(each), 4)) for each in multipliers]
        options.sort(key=lambda option: _help_needed(baseline, option, times))
    found = []
    for depth, width in _distinct(baseline, [option for option in options if min(option) >= 1]):
        found.append(equalized(baseline.scaled(depth, width), budget, cost, round(pixels * gamma**phi)))
        if abs(found[-1].miss) <= within:
            return found[-1]
    return min(found, key=lambda each: abs(each.miss))


def resolution_of(variant: ScaledVariant) -> int:
    """Returns the side of a network's input in pixels."""
    return architecture(str(variant)).resolution


def identity(variant: ScaledVariant) -> tuple:
    """Returns what decides a network's cost and training. Different multipliers can round to the same network."""
    network = architecture(str(variant))
    return (
        variant.name.partition("/")[0],
        network.blocks,
        network.stem_filters,
        network.head_filters,
        network.resolution,
    )


def _not_above(baseline: ScaledVariant) -> str:
    return (
        f"no image a little larger than that of {baseline} costs more and comes near the budget: take a larger budget, or a "
        "baseline of more pixels"
    )


def _worst(networks: dict[str, Equalized]) -> float:
    return max(abs(network.miss) for network in networks.values())


def _help_needed(baseline: ScaledVariant, multipliers: tuple[float, float], times: float) -> float:
    """Returns the distance of the cost from the budget before the resolution corrects it, in multiply-adds of two classes."""
    judge = multiply_adds(2)
    return abs(math.log(judge(baseline.scaled(*multipliers)) / judge(baseline) / times))


def _distinct(baseline: ScaledVariant, options: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yields the first option of each network that the options round to; at most `_OPTIONS`."""
    seen = set()
    for multipliers in options:
        network = identity(baseline.scaled(*multipliers))
        if network not in seen and len(seen) < _OPTIONS:
            seen.add(network)
            yield multipliers


def _possible(pixels: int) -> int:
    return min(max(pixels, SMALLEST_RESOLUTION), LARGEST_RESOLUTION)
