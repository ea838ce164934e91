"""Shows the cost of a run and asks the user before anything is requested.

Prices are those of launch/prices.txt: list prices on demand.
"""

from __future__ import annotations

import sys

from pod.errors import Refused
from pod.options import Options
from pod.slices.accelerators import Accelerator


def describe(accelerator: Accelerator, options: Options, duration: str, hours_left: float) -> str:
    """Returns the cost of an hour and the most that the run can cost, as text.

    Args:
      accelerator: the slice's type.
      options: the options of the run.
      duration: the duration of the run, in the configuration's words.
      hours_left: hours until the deadline.
    """
    machines = f"{accelerator.machines} machine{'s' if accelerator.machines > 1 else ''}"
    return (
        f"the run is {duration}. {accelerator.type} is {accelerator.chips} chips in {machines}: "
        f"{accelerator.chips} chip-hours an hour, about {accelerator.dollars(1):,.2f} US dollars an hour at list price on "
        f"demand (requested: {options.provisioning}). The deadline is in {hours_left:g} hours, so at most "
        f"{accelerator.dollars(hours_left):,.0f} dollars (--deadline changes it). It ends earlier with the run, or with: "
        f"launch/tpu_pod.sh down --name {options.name}"
    )


def confirm(question: str) -> None:
    """Asks on the terminal, and returns if the answer is yes.

    Raises:
      Refused: the answer is not yes, or there is no terminal.
    """
    if not sys.stdin or not sys.stdin.isatty():
        raise Refused("nobody to ask; give --yes to continue without")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if not sys.stdin.readline().strip().lower().startswith("y"):
        raise Refused("nothing was requested")


def still_billed(accelerator: Accelerator, name: str) -> str:
    """Returns the reminder that a slice that is kept is billed."""
    return (
        f"the slice is still there, and billed: about {accelerator.dollars(1):,.2f} dollars an hour until: "
        f"launch/tpu_pod.sh down --name {name}"
    )
