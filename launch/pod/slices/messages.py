"""What a supervisor tells its user about a decision, and what it asks."""

from __future__ import annotations

import sys

from pod.errors import Refused
from pod.slices import cost
from pod.slices.slice_decisions import END, STOP, WATCH, Decision


def describe(decision: Decision, name: str, accelerator_type: str) -> str:
    """Returns the line for the log.

    Args:
      decision: the decision.
      name: the name of the run.
      accelerator_type: the type of the slice, such as "v5litepod-32".
    """
    if decision.action == WATCH:
        return f"job: {decision.reason}"
    if decision.action == END:
        return decision.reason
    if decision.action == STOP:
        return (
            f"stopping: {decision.reason}. No slice is requested automatically; continue with: "
            f"launch/tpu_pod.sh resume --name {name}"
        )
    return f"slice {name} ({accelerator_type}): {decision.reason}"


def user_wants_another_slice() -> bool:
    """Asks on the terminal whether to replace a slice that was deleted by hand; without a terminal the answer is no."""
    if not sys.stdin or not sys.stdin.isatty():
        return False
    try:
        cost.confirm("Ask for another slice?")
    except Refused:
        return False
    return True
