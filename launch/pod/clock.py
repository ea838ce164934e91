"""Time as an argument: what decides or waits is given a clock, so that a test can give it another.

Owns nothing. `now` is for what is written down (seconds since 1970, as machines agree on them); `monotonic` is for how long
something took here, and does not jump when a machine's clock is set.
"""

from __future__ import annotations

import time


class Clock:
    """This machine's time."""

    def now(self) -> float:
        """Returns the seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Returns seconds from an arbitrary start, never less than before."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)
