"""Clocks of tests: time that does not pass by itself."""

from pod.clock import Clock


class SteppedClock(Clock):
    """Time that passes only by waiting, or as a test sets it."""

    def __init__(self):
        self.time = 1e9

    def now(self):
        return self.time

    def monotonic(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds
