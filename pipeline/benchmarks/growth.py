"""Grows a network by depth, by width and by resolution, and compares what each gains for a compiled TPU cycle.

Each dimension grows alone, in a few steps. The costs are the TPU compiler's cycles of one image, not measurements. At a budget
of cycles, each dimension's multiply-adds and parameters are interpolated between its own networks. Nothing is trained here,
and more multiply-adds are not more accuracy.

Source of the published growth: Li et al., EfficientNet-X, arXiv 2102.05610; tensorflow/tpu, efficientnet_x_builder.py.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

from pipeline.model.counting import count_architecture
from pipeline.model.scaling import architecture
from pipeline.model.tables import align
from pipeline.model.variants import ScaledVariant

WAYS = ("depth", "width", "resolution")
FACTORS = (2.0, 3.0, 1.4)  # of the multiply-adds, before rounding; in the order in which they are compiled
PUBLISHED = {  # EfficientNet-X as scaled for TPUs, relative to its B0: depth, width, pixels [efficientnet_x_builder.py]
    "x-tpu-b2": (1.29, 1.13, 244),
    "x-tpu-b4": (2.38, 1.54, 299),
    "x-tpu-b7": (3.44, 3.26, 350),
}


@dataclasses.dataclass(frozen=True)
class Grown:
    """A network and what it costs.

    Attributes:
      way: One of `WAYS`, or "baseline".
      variant: The network.
      macs: Its counted multiply-adds of one image.
      params: Its counted parameters.
      cycles: A device's compiled cycles of one image.
    """

    way: str
    variant: ScaledVariant
    macs: int
    params: int
    cycles: float


def networks(baseline: ScaledVariant) -> list[tuple[str, ScaledVariant]]:
    """Returns the baseline and the networks that grow from it, each with its way."""
    pixels = architecture(str(baseline)).resolution
    found = [("baseline", baseline.scaled(resolution=pixels))]
    for factor in FACTORS:
        root = math.sqrt(factor)
        found += [
            ("depth", baseline.scaled(depth=factor, resolution=pixels)),
            ("width", baseline.scaled(width=root, resolution=pixels)),
            ("resolution", baseline.scaled(resolution=round(pixels * root))),
        ]
    return found


def grown(way: str, variant: ScaledVariant, cycles: Callable[[ScaledVariant], float], num_classes: int) -> Grown:
    """Returns a network with its counts and its compiled cost."""
    count = count_architecture(architecture(str(variant)), num_classes)
    return Grown(way, variant, count.macs, count.params, cycles(variant))


def table(found: Sequence[Grown]) -> str:
    """Returns a line for each network, relative to the baseline, which comes first."""
    base = found[0]
    rows = [["grown in", "network", "multiply-adds", "parameters", "cycles an image", "times", "multiply-adds a cycle"]]
    order = ("baseline", *WAYS)
    for each in sorted(found, key=lambda each: (order.index(each.way), each.cycles)):
        rows.append(
            [
                each.way,
                str(each.variant),
                f"{each.macs:,}",
                f"{each.params:,}",
                f"{each.cycles:,.0f}",
                f"{each.cycles / base.cycles:.2f}",
                f"{each.macs / each.cycles:.1f}",
            ]
        )
    return align(rows)


def at_budget(found: Sequence[Grown], times: float) -> dict[str, tuple[float, float]]:
    """Returns what each way has at a budget, by interpolation in logarithms.

    Args:
      found: The baseline and the networks grown from it.
      times: The budget, in cycles of the baseline.

    Returns:
      For each way whose networks enclose the budget: the factors of its multiply-adds and parameters over the baseline's.
    """
    base, reached = found[0], {}
    for way in WAYS:
        line = sorted((each for each in found if each.way in ("baseline", way)), key=lambda each: each.cycles)
        for low, high in itertools.pairwise(line):
            if low.cycles <= times * base.cycles <= high.cycles and low.cycles < high.cycles:
                share = math.log(times * base.cycles / low.cycles) / math.log(high.cycles / low.cycles)
                reached[way] = (
                    _between(low.macs, high.macs, share) / base.macs,
                    _between(low.params, high.params, share) / base.params,
                )
    return reached


def verdict(found: Sequence[Grown], times: float) -> str:
    """Says in lines what each way has at a budget, and which has most, beside the published growth."""
    reached = at_budget(found, times)
    lines = [f"at {times:g} times the baseline's cycles:"]
    for way in WAYS:
        if way in reached:
            macs, params = reached[way]
            lines.append(f"  {way}: {macs:.2f} times the multiply-adds, {params:.2f} times the parameters")
        else:
            lines.append(f"  {way}: no networks on both sides of the budget")
    if len(reached) == len(WAYS):
        first, second = (max(reached, key=lambda way: reached[way][index]) for index in (0, 1))
        lines.append(f"most multiply-adds for a cycle: {first}; most parameters: {second}")
    lines.append("published for TPUs (EfficientNet-X, for latency and accuracy together), in multiples of its own B0:")
    lines += [
        f"  {name}: depth {depth:.2f}, width {width:.2f}, pixels {pixels / 224:.2f}"
        for name, (depth, width, pixels) in PUBLISHED.items()
    ]
    return "\n".join(lines)


def _between(low: float, high: float, share: float) -> float:
    return low ** (1 - share) * high**share
