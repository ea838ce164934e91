"""For how long somebody has given no sign of life, where nobody could have been heard for a while.

Owns the one rule: time counts only between two looks that came off one soon after the other. After a disturbance of the bucket
nobody is taken for dead before the whole bound has passed again in which he could have been heard. Whether a value is a time,
a number or a text does not matter, only that it changes; so no two machines' clocks are compared.
"""

from __future__ import annotations

from pod.clock import Clock

POLLS = 5  # usual pauses between two looks; what is longer was a disturbance


class Silence:
    """For how long each of several values has not changed, counted only between looks that came off."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._seen: dict[object, tuple[object, float]] = {}
        self._last = clock.monotonic()

    def look(self, values: dict[object, object], longest_pause: float) -> dict[object, float]:
        """Returns the seconds for which each value has been as it is.

        Args:
          values: what is seen now.
          longest_pause: seconds between two looks. What is beyond, while nothing could be seen, is not counted.
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
