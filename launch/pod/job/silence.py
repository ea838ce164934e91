"""Measures for how long values have not changed, without counting the time when they could not be read.

Time counts only between two successful reads that follow soon after each other. So after a failure of the bucket, nobody is
taken for dead before the whole limit has passed again. Only changes of a value count, so clocks of different machines are
never compared.
"""

from __future__ import annotations

from pod.clock import Clock

POLLS = 5  # in usual pauses between two reads; a longer gap was a failure


class Silence:
    """Tracks for how long each of several values has not changed, counted only between successful reads."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._seen: dict[object, tuple[object, float]] = {}
        self._last = clock.monotonic()

    def look(self, values: dict[object, object], longest_pause: float) -> dict[object, float]:
        """Returns the seconds since each value changed.

        Args:
          values: the current values.
          longest_pause: seconds between two reads that count; the rest of a longer gap is not counted.
        """
        now = self._clock.monotonic()
        lost = max(now - self._last - longest_pause, 0.0)
        self._last = now
        seconds = {}
        for name, value in values.items():
            before, since = self._seen.get(name, (value, now))
            since = min(since + lost, now) if before == value else now
            self._seen[name] = (value, since)
            seconds[name] = now - since
        return seconds
