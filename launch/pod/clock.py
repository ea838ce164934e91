"""Time as an argument: code that decides or waits takes a clock, so a test can replace it.

`now` is for times that are written down (seconds since 1970). `monotonic` is for durations on this machine, and does not jump
when the system's clock is set.
"""

from __future__ import annotations

import time


class Clock:
    """This machine's time."""

    def now(self) -> float:
        """Returns the seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Returns seconds since an arbitrary start, which never decrease."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)
