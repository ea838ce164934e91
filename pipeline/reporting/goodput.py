"""Where the time of a run goes: seconds by phase, over all of its restarts.

Phases do not overlap. Time outside all of them is "other". The step's time on the devices shows as waiting for its results,
because dispatch is asynchronous. "startup" ends where the first step begins, compilation apart.
"""

import contextlib
import time
from collections.abc import Iterator

PHASES = ("startup", "compile", "input", "step", "checkpoint", "evaluation", "other")


class Goodput:
    """Seconds by phase.

    Args:
      earlier: what earlier processes of the run had counted, from `by_phase`.
    """

    def __init__(self, earlier: dict[str, float] | None = None):
        self._earlier = earlier or {}
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._started = time.monotonic()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the time spent inside towards a phase, also when it ends with an error."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] += time.monotonic() - started

    def started(self) -> None:
        """Counts all time so far that belongs to no phase as "startup"."""
        self._seconds["startup"] = self._elapsed() - sum(self._seconds.values())

    def seconds(self, name: str) -> float:
        """Returns the seconds of one phase in this process."""
        return self._seconds[name]

    def by_phase(self) -> dict[str, float]:
        """Returns the seconds of all phases, those of earlier processes included."""
        here = {**self._seconds, "other": self._elapsed() - sum(self._seconds.values())}
        return {name: round(self._earlier.get(name, 0.0) + here[name], 3) for name in PHASES}

    def describe(self) -> str:
        """Returns the shares of the phases, for people."""
        seconds = self.by_phase()
        total = sum(seconds.values()) or 1.0
        return f"{total:,.0f} seconds: " + ", ".join(f"{name} {value / total:.0%}" for name, value in seconds.items())

    def _elapsed(self) -> float:
        return time.monotonic() - self._started
