"""A keeper's view of all workers at one time: plain values and their interpretation.

A worker has ended an attempt if it says so, or if it does not run what it had started. It is dead if it has been silent for the
limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from pod.plane.control import Bounds, WorkerReport


@dataclass(frozen=True)
class WorkerSeen:
    """One worker.

    Attributes:
      report: its last report, or None.
      silent_seconds: time without a heartbeat, counted only while the bucket could be read.
    """

    report: WorkerReport | None
    silent_seconds: float = 0.0

    @property
    def last_report(self) -> WorkerReport:
        """The report of a worker that has written one."""
        assert self.report is not None, "only of workers that have written one"
        return self.report

    def has_ended(self, attempt: int) -> bool:
        """Whether it has started that attempt and no longer runs it."""
        return self.report is not None and self.report.attempt == attempt and self.report.state != "running"

    def has_started(self, attempt: int) -> bool:
        """Whether it has started that attempt."""
        return self.report is not None and self.report.attempt >= attempt

    def is_dead(self, bounds: Bounds) -> bool:
        """Whether it has been silent for too long; a worker that never answered may still be coming up."""
        return self.silent_seconds > (bounds.heartbeat_seconds if self.report is not None else bounds.setup_seconds)


@dataclass(frozen=True)
class Seen:
    """Everything that a decision depends on.

    Attributes:
      now: seconds since 1970.
      workers: the workers, in the order of their numbers.
      supervised: whether a supervisor is alive.
    """

    now: float
    workers: tuple[WorkerSeen, ...]
    supervised: bool = True

    def progress(self, attempt: int) -> int:
        """Returns the highest step of an attempt on any worker."""
        reports = [worker.report for worker in self.workers if worker.report is not None]
        return max((report.step for report in reports if report.attempt == attempt), default=0)

    def log_silent_seconds(self, attempt: int) -> float:
        """Returns the time since the log of a running attempt grew on any worker."""
        running = [worker for worker in self.workers if worker.has_started(attempt) and not worker.has_ended(attempt)]
        return min((worker.last_report.log_silent_seconds + worker.silent_seconds for worker in running), default=0.0)
