"""Ends a process that hangs, after printing where it is.

The watchdog covers a start from opening the data to the last write; each part announces itself with `beat`. A collective that
waits for a lost peer cannot be interrupted from Python, so the process ends without clean-up. By then everything that matters
is written, and the exit code asks for a restart. The watchdog touches no device, because a device may be what hangs. Time in
which the whole process stands still, as with Ctrl-Z, is no hang.
"""

import contextlib
import faulthandler
import os
import sys
import threading
import time

from pipeline.errors import MachineError


class Watchdog:
    """A context manager that watches the time since the last `beat`.

    Args:
      warn_seconds: after this long without a beat, the stack of every thread is printed once; 0: never.
      abort_seconds: after this long, the process ends with `MachineError.exit_code`; 0: never.
      who: the name of this process in messages.
    """

    def __init__(self, *, warn_seconds: float, abort_seconds: float, who: str = "this process"):
        self.who = who
        self._warn_seconds = warn_seconds or float("inf")
        self._abort_seconds = abort_seconds or float("inf")
        self._stop = threading.Event()
        self._beat = ("starting", time.monotonic(), 1.0)
        self._warned = None
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._stop.set()
        self._thread.join()

    def beat(self, where: str, patience: float = 1.0) -> None:
        """Reports that the run is alive and what it does next; `patience` multiplies both limits for it."""
        self._beat = (where, time.monotonic(), patience)  # one atomic assignment, because another thread reads it

    def _watch(self) -> None:
        pause = min(self._warn_seconds, self._abort_seconds, 60.0) / 4
        looked, seen, silent = time.monotonic(), None, 0.0
        while not self._stop.wait(pause):
            where, since, patience = beat = self._beat
            now = time.monotonic()
            # If a pause took longer than asked for, the whole process stood still.
            silent = min(now - since, pause) if beat is not seen else silent + min(now - looked, pause)
            looked, seen = now, beat
            if silent > patience * self._warn_seconds and self._warned is not beat:
                self._warned = beat
                self._log(f"has been {where} for {silent:.0f} seconds; its threads:")
                faulthandler.dump_traceback(file=2)
            if silent > patience * self._abort_seconds:
                self._log(f"has been {where} for {silent:.0f} seconds: ending it. The same command continues the run")
                os._exit(MachineError.exit_code)

    def _log(self, what: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it; a hang must end nevertheless
            print(f"Watchdog: {self.who} {what}", file=sys.stderr, flush=True)
