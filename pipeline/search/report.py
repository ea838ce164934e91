"""Formats what a search has found as text, and draws its trials, its fronts and its course.

All numbers come from `progress.py`.
"""

from typing import Any

import numpy as np

from pipeline.model.tables import align
from pipeline.search.fronts import front
from pipeline.search.record import Findings
from pipeline.trials.costs import UNITS, shown
from pipeline.trials.intervals import doubt, percent

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def text(findings: Findings) -> str:
    """Returns the tables of a finished search."""
    kind = findings["cost"]
    unit = UNITS[kind][0]
    lines = [
        f"{findings['space']:,} networks in the space; target {shown(kind, findings['target'])} {unit} an image, at most "
        f"{shown(kind, findings['largest_cost'])}",
        "",
        align([["search", "trials", "trained", "not", "best reward", "at trial", "hypervolume"], *_courses(findings)]),
        "",
        _prediction(findings),
        "",
        "trained in full on the search's own split:",
        align([["network", unit, "parameters", "proxy top-1, %", "full top-1, %"], *_full(findings)]),
        "",
        "trained in full on the whole training split, and tested:",
        align([["network", "multiply-adds", "parameters", "runs", "test top-1, %"], *_final(findings)]),
        _verdict(findings),
        "",
        *_names(findings),
        f"found: {findings['winner']}",
    ]
    problems = [
        f"{row['network']}: {problem}" for row in (*findings["full"], *findings["final"]) for problem in row["problems"]
    ]
    return "\n".join([*lines, *problems]) + "\n"


def figure(findings: Findings):
    """Draws all trials with the front of each algorithm, the best reward over trials, and the hypervolume over trials.

    Returns:
      uint8 RGB `[height, width, 3]`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(16, 4.8), layout="constrained")
    canvas = FigureCanvasAgg(drawing)
    trials, rewards, volumes = drawing.subplots(1, 3)
    unit, factor = UNITS[findings["cost"]]
    names = list(dict.fromkeys(course["algorithm"] for course in findings["searches"]))
    for name, colour in zip(names, _COLOURS * len(names)):
        courses = [course for course in findings["searches"] if course["algorithm"] == name]
        points = [(row["cost"] * factor, 100 * row["top1"]) for course in courses for row in _trained(course)]
        if points:
            trials.scatter(*zip(*points), s=12, alpha=0.5, color=colour, label=f"{name}, trials")
            trials.step(*zip(*front(points)), where="post", color=colour, label=f"{name}, front")
        for course in courses:
            numbers = range(1, len(course["trials"]) + 1)
            label = f"{name}, seed {course['seed']}"
            for axes, key in ((rewards, "best_reward"), (volumes, "hypervolume")):
                axes.plot(numbers, [row[key] for row in course["trials"]], color=colour, label=label)
    trials.axvline(findings["target"] * factor, color="grey", linewidth=1, label="target")
    trials.set(xlabel=f"{unit} an image", ylabel="held-out top-1 of the short trial, %")
    rewards.set(xlabel="trials", ylabel="best reward so far")
    volumes.set(xlabel="trials", ylabel="hypervolume so far")
    for axes in (trials, rewards, volumes):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _courses(findings: Findings) -> list[list[str]]:
    rows = []
    for course in findings["searches"]:
        trials, trained = course["trials"], len(_trained(course))
        best = trials[-1]["best_reward"]
        at = next(index for index, row in enumerate(trials, 1) if row["reward"] == best)
        rows.append(
            [
                f"{course['algorithm']}, seed {course['seed']}",
                *(f"{len(trials)}", f"{trained}", f"{len(trials) - trained}"),
                *(f"{best:.4f}", f"{at}", f"{trials[-1]['hypervolume']:.4f}"),
            ]
        )
    return rows


def _prediction(findings: Findings) -> str:
    rho = findings["spearman"]
    finding = "has no rank correlation" if rho is None else f"has Spearman's rho {rho:+.2f}"
    return f"the short trials' accuracy {finding} with that of training in full, over {findings['predicted']} networks"


def _full(findings: Findings) -> list[list[str]]:
    costs = {row["network"]: row for course in findings["searches"] for row in course["trials"]}
    return [
        [
            _label(row["network"], findings),
            shown(findings["cost"], costs[row["network"]]["cost"]),
            f"{row['parameters']:,}",
            f"{100 * row['proxy']:.2f}",
            percent(row["mean"], None),
        ]
        for row in findings["full"]
    ]


def _final(findings: Findings) -> list[list[str]]:
    rows = []
    for row in findings["final"]:
        top1 = percent(row["mean"], row["half_width"])
        label = f"by hand, {row['network']}" if row["by_hand"] else _label(row["network"], findings)
        rows.append([label, f"{row['macs']:,}", f"{row['parameters']:,}", f"{len(row['top1'])}", top1])
    return rows


def _verdict(findings: Findings) -> str:
    """Compares the network found with the one made by hand, and says whether the difference may be chance."""
    found = next(row for row in findings["final"] if row["network"] == findings["winner"])
    hand = next(row for row in findings["final"] if row["by_hand"])
    if found["mean"] is None or hand["mean"] is None:
        return "one of them could not be trained, so nothing is compared"
    ahead = found["mean"] - hand["mean"]
    chance = doubt(ahead, (found["half_width"], hand["half_width"]))
    label = _label(found["network"], findings)
    return f"{label}, the network found, is {100 * ahead:+.2f} points beside the one by hand; {chance}"


def _names(findings: Findings) -> list[str]:
    return [f"{_label(row['network'], findings)}: {row['network']}" for row in findings["full"]]


def _label(network: str, findings: Findings) -> str:
    """Returns a short name for a network whose text would fill the table."""
    return f"n{1 + [row['network'] for row in findings['full']].index(network)}"


def _trained(course: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in course["trials"] if row["top1"] is not None]
