"""Notices a step that takes abnormally long: says where this host is, and at last ends the process.

A collective that waits for a peer which is gone cannot be interrupted from Python, so the process ends without clean-up;
what matters has been written by then, and the exit code asks for a restart.
"""

import faulthandler
import os
import sys
import threading
import time

import jax

from pipeline.errors import MachineError


class Watchdog:
    """Watches the time since the last `beat`; a context manager.

    Args:
      warn_seconds: after this long without a beat every thread's position is printed, once; 0: never.
      abort_seconds: after this long the process ends with `MachineError.exit_code`; 0: never.
    """

    def __init__(self, *, warn_seconds: float, abort_seconds: float):
        self._warn_seconds = warn_seconds or float("inf")
        self._abort_seconds = abort_seconds or float("inf")
        self._stop = threading.Event()
        self._where, self._last, self._warned = "starting", time.monotonic(), False
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._stop.set()
        self._thread.join()

    def beat(self, where: str) -> None:
        """Says that the run is alive, and what it begins now."""
        self._where, self._last, self._warned = where, time.monotonic(), False

    def _watch(self) -> None:
        pause = min(self._warn_seconds, self._abort_seconds, 60.0) / 4
        while not self._stop.wait(pause):
            silent = time.monotonic() - self._last
            if silent > self._warn_seconds and not self._warned:
                self._warned = True
                self._say(f"has been {self._where} for {silent:.0f} seconds; its threads:")
                faulthandler.dump_traceback(file=sys.stderr)
            if silent > self._abort_seconds:
                self._say(
                    f"has been {self._where} for {silent:.0f} seconds: ending it. The same command continues the run"
                )
                os._exit(MachineError.exit_code)

    def _say(self, what: str) -> None:
        print(f"Watchdog: process {jax.process_index()} {what}", file=sys.stderr, flush=True)
