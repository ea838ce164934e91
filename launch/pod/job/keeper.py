"""Keeps the job from worker 0: it reads all workers' reports, decides (`job_decisions.py`), and writes `job.json`.

It writes only while `control.json` names this slice. It works without a supervisor: the job is restarted after a crash, and
the slice is deleted when the job is over. Everything that a decision depends on is in the bucket, so a restarted keeper
continues. An unreadable bucket is no reason to act: silence counts only while the bucket answers.
"""

from __future__ import annotations

import dataclasses

from pod.clock import Clock
from pod.job.job_decisions import decide
from pod.job.job_seen import Seen, WorkerSeen
from pod.job.silence import POLLS, Silence
from pod.job.surrender import Surrender
from pod.plane.control import Control, JobState, WorkerReport
from pod.plane.control_plane import ControlPlane, Stored
from pod.services.bucket import ABSENT, Conflict

_SUPERVISOR_RENEWALS = 6  # after so many missed renewals there is no supervisor


class Keeper:
    """The keeper of one slice's job."""

    def __init__(self, plane: ControlPlane, incarnation: str, surrender: Surrender, clock: Clock):
        self._plane, self._incarnation, self._surrender, self._clock = plane, incarnation, surrender, clock
        self._silence = Silence(clock)
        self._dropped: set[str] = set()

    def step(self, wanted: Control, stored: Stored[JobState] | None, own: WorkerReport) -> JobState | None:
        """Takes one decision.

        Args:
          wanted: `control.json`, read after `stored`; it names this slice.
          stored: `job.json`.
          own: the report of worker 0, newer than the one in the bucket.

        Returns:
          The job as written; None if another process wrote it meanwhile.

        Raises:
          ApiError: the bucket cannot be read or written.
        """
        reports = {**self._plane.workers(self._incarnation), 0: own}
        signs: dict[object, object] = {
            index: report.heartbeat if (report := reports.get(index)) else None for index in range(wanted.workers)
        }
        seconds = self._silence.look({**signs, "supervisor": wanted.supervisor}, POLLS * wanted.bounds.poll_seconds)
        now = self._clock.now()
        seen = Seen(
            now=now,
            workers=tuple(WorkerSeen(reports.get(index), seconds[index]) for index in range(wanted.workers)),
            supervised=wanted.supervisor is not None
            and seconds["supervisor"] < _SUPERVISOR_RENEWALS * wanted.bounds.lock_seconds,
        )
        decision = decide(wanted, stored.value if stored is not None else None, seen)
        job = dataclasses.replace(decision.job, updated=now)
        if decision.delete:
            job = self._with_surrender(job)
        try:
            self._plane.write_job(job, ABSENT if stored is None else stored.generation)
        except Conflict:
            return None
        if decision.delete:
            # Write the job's end to the bucket before the machine disappears.
            self._surrender.attempt(wanted.queued_resource, wanted.bounds.heartbeat_seconds)
        self._drop_environment(wanted, seen)
        return job

    def _with_surrender(self, job: JobState) -> JobState:
        problem = self._surrender.message
        if not problem or problem in job.message:
            return job
        return dataclasses.replace(job, message=f"{job.message}\n{problem}")

    def _drop_environment(self, wanted: Control, seen: Seen) -> None:
        """Deletes the object with the environment once all workers have it."""
        name = wanted.job.environment
        have = all(worker.report is not None and worker.report.environment == name for worker in seen.workers)
        if name and have and name not in self._dropped:
            self._plane.bucket.delete(self._plane.name(name))
            self._dropped.add(name)
