"""Announces work that can take more than a few seconds, with its usual duration.

It prints to stderr, because stdout may be another program's input. The durations are those of an idle machine.
"""

import contextlib
import sys


def announce(what: str, usually: str) -> None:
    """Prints such as "Opening the weights (usually 10 seconds) …"."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        print(f"{what} (usually {usually}) …", file=sys.stderr, flush=True)
