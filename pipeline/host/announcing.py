"""Says what begins now and how long it usually takes, before anything that can take more than a few seconds.

On stderr, because stdout may be somebody's input. The times are those of an idle machine; a busy one takes many times as long,
and then it matters to know what is waited for.
"""

import contextlib
import sys


def announce(what: str, usually: str) -> None:
    """Prints such as "Opening the weights (usually 10 seconds) …"."""
    with contextlib.suppress(OSError, ValueError):  # nobody is there to read it
        print(f"{what} (usually {usually}) …", file=sys.stderr, flush=True)
