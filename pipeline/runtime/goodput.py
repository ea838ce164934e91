"""Where the time of a run goes: seconds by phase, measured on the host.

Phases do not overlap; time outside all of them is the host's own work. The step's time on the device shows as waiting for
its results, because dispatch is asynchronous.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator


class Goodput:
    """Seconds by phase since the start of this process."""

    def __init__(self):
        self._seconds: dict[str, float] = defaultdict(float)
        self._started = time.monotonic()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the time spent inside towards a phase, also when it ends with an error."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] += time.monotonic() - started

    def seconds(self, name: str) -> float:
        """Returns the seconds of one phase."""
        return self._seconds[name]

    def total(self) -> float:
        """Returns the seconds since the start."""
        return time.monotonic() - self._started

    def by_phase(self) -> dict[str, float]:
        """Returns the seconds of all phases."""
        return dict(self._seconds)
