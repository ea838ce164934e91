"""Formats the findings of a study as tables, and draws accuracy over cost.

All numbers come from `investigation.py`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.model.scaling_search import WAYS
from pipeline.model.tables import align
from pipeline.scaling.investigation import Findings
from pipeline.trials.costs import UNITS, shown
from pipeline.trials.intervals import doubt, percent


def text(findings: Findings) -> str:
    """Returns the tables of every baseline."""
    return "\n\n".join(_of_baseline(found, findings) for found in findings["baselines"]) + "\n"


def figure(findings: Findings):
    """Draws top-1 over cost with confidence intervals: a panel for each baseline, a line for each way.

    Returns:
      uint8 RGB `[height, width, 3]`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = findings["baselines"]
    drawing = Figure(figsize=(6.5 * len(found), 4.5), layout="constrained")
    canvas = FigureCanvasAgg(drawing)
    unit, factor = UNITS[findings["cost"]]
    for axes, each in zip(drawing.subplots(1, len(found), squeeze=False)[0], found):
        for way in WAYS:
            points = [each["baseline"], *(row for row in each["comparison"] if row["way"] == way)]
            points = [point for point in points if point["mean"] is not None]
            axes.errorbar(
                [point["cost"] * factor for point in points],
                [100 * point["mean"] for point in points],
                [100 * (point["half_width"] or 0) for point in points],
                marker="o",
                markersize=4,
                capsize=3,
                label=way,
            )
        axes.set(xlabel=f"{unit} an image", ylabel="top-1, %", title=each["baseline"]["variant"])
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0), min(high, 100))  # intervals of few runs can reach beyond what there is
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _of_baseline(found: dict[str, Any], findings: Findings) -> str:
    unit = UNITS[findings["cost"]][0]
    base, search = found["baseline"], found["search"]
    best = search["best"]
    header = ["", "alpha", "beta", "gamma", unit, "off-budget", "parameters", "runs", "top-1, %"]
    rows = [header, ["baseline", "", "", "", *_numbers(base, findings)]]
    for row in search["candidates"]:
        mix = [f"{row[key]:.2f}" for key in ("alpha", "beta", "gamma")]
        chosen = "best" if all(row[key] == best[key] for key in best) else ""
        rows.append([chosen, *mix, *_numbers(row, findings)])
    lines = [f"{base['variant']}, searched at {search['times']:.2f} times its cost", align(rows)]
    if search["left_out"]:
        reasons = {}
        for row in search["left_out"]:
            reasons.setdefault(row["reason"], []).append(row["variant"].partition(":")[2])
        lines += [f"not compared, {reason}: {'; '.join(names)}" for reason, names in reasons.items()]
    rows = [["way", "times", "network", unit, "off-budget", "parameters", "runs", "top-1, %"]]
    for row in found["comparison"]:
        times = row["cost"] / base["cost"]
        rows.append([row["way"], f"{times:.2f}", row["variant"].partition(":")[2], *_numbers(row, findings)])
    lines += ["", align(rows)]
    lines += [
        f"{row['way']} at {row['times']:g} times: no network on this way costs what the others do"
        for row in found["comparison"]
        if not row["within_tolerance"]
    ]
    lines += [
        f"{row['variant']}: {problem}"
        for row in (base, *search["candidates"], *found["comparison"])
        for problem in dict.fromkeys(row["problems"])
    ]
    return "\n".join([*lines, *_verdicts(found)])


def _numbers(row: dict[str, Any], findings: Findings) -> list[str]:
    cost, top1 = shown(findings["cost"], row["cost"]), percent(row["mean"], row["half_width"])
    return [cost, f"{row['off_budget']:+.1%}", f"{row['parameters']:,}", f"{len(row['top1'])}", top1]


def _verdicts(found: dict[str, Any]) -> Iterator[str]:
    """Compares compound scaling with the best other way at each budget, and says whether the difference may be chance."""
    for times in dict.fromkeys(row["times"] for row in found["comparison"]):
        rows = {row["way"]: row for row in found["comparison"] if row["times"] == times and row["mean"] is not None}
        compound = rows.pop("compound", None)
        if compound is None or not rows:
            continue
        other = max(rows.values(), key=lambda row: row["mean"])
        ahead = compound["mean"] - other["mean"]
        chance = doubt(ahead, (compound["half_width"], other["half_width"]))
        yield f"at {times:g} times: compound {100 * ahead:+.2f} points beside {other['way']}, the best of the others; {chance}"
