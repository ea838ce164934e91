"""Looks all the time at what is billed and at what runs, and remembers what must never be.

Owns two figures: for how long at most a node was ready without a trainer on it, and how many nodes had trainers at one time.
It asks the service's own bill and the process table, and nothing of the launcher.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from cloud.slices import Slices

LOOK_SECONDS = 0.05


class Meter:
    """Looks until `close`.

    Attributes:
      longest_idle: seconds that a node was ready and ran no trainer, in one piece, over all nodes.
      most_at_once: nodes that ran trainers at the same time.
      running: the numbers of the nodes that ran a trainer when it was last looked, and the time of that look.
    """

    def __init__(self, tpu: Slices, folder: Path):
        folder.mkdir(parents=True)
        self._tpu, self._folder = tpu, folder
        self._idle_since: dict[int, float] = {}
        self.longest_idle = 0.0
        self.most_at_once = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the looking."""
        self._closed.set()
        self._thread.join()

    def running(self) -> set[tuple[int, int]]:
        """(number of the node, worker) of the trainers that run now."""
        found = set()
        for mark in list(self._folder.iterdir()):
            number, worker, pid = mark.name.split("-")
            if _is_there(int(pid)):
                found.add((int(number), int(worker)))
            else:
                mark.unlink(missing_ok=True)
        return found

    def _look(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            now = time.monotonic()
            numbers = {number for number, _ in self.running()}
            self.most_at_once = max(self.most_at_once, len(numbers))
            with self._tpu.lock:
                billed = {bill.incarnation: bill.ready for bill in self._tpu.bills if bill.gone is None}
            for number in set(self._idle_since) - set(billed):
                del self._idle_since[number]
            for number, ready in billed.items():
                since = self._idle_since.setdefault(number, ready)
                if number in numbers:
                    self._idle_since[number] = now
                else:
                    self.longest_idle = max(self.longest_idle, now - since)


def _is_there(pid: int) -> bool:
    """Whether a process, which wrote down its number itself before it became a trainer, is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
