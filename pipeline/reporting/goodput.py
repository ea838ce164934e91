"""Counts where the time of a run goes: seconds by phase, over all of its restarts.

Phases do not overlap; the rest is "other". Dispatch is asynchronous, so a step's time on the devices appears as waiting for its
results. "startup" lasts until the first step and excludes compilation.
"""

import contextlib
import time
from collections.abc import Generator

PHASES = ("startup", "compile", "input", "step", "checkpoint", "evaluation", "other")


class Goodput:
    """Seconds by phase.

    Args:
      earlier: the seconds of earlier starts of the run, from `by_phase`.
    """

    def __init__(self, earlier: dict[str, float] | None = None):
        self._earlier = earlier or {}
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._started = time.monotonic()

    @contextlib.contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Adds the time spent inside the block to a phase, also if the block raises."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] += time.monotonic() - started

    def started(self) -> None:
        """Counts all time so far outside the phases as "startup"."""
        self._seconds["startup"] = self._elapsed() - sum(self._seconds.values())

    def seconds(self, name: str) -> float:
        """Returns the seconds of one phase in this process."""
        return self._seconds[name]

    def by_phase(self) -> dict[str, float]:
        """Returns the seconds of all phases, including earlier starts."""
        here = {**self._seconds, "other": self._elapsed() - sum(self._seconds.values())}
        return {name: round(self._earlier.get(name, 0.0) + here[name], 3) for name in PHASES}

    def describe(self) -> str:
        """Returns the total and the share of each phase as text."""
        seconds = self.by_phase()
        total = sum(seconds.values()) or 1.0
        return f"{total:,.0f} seconds: " + ", ".join(f"{name} {value / total:.0%}" for name, value in seconds.items())

    def _elapsed(self) -> float:
        return time.monotonic() - self._started
