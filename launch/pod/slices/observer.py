"""Observes slice and job for a supervisor, and for how long they have been in their states.

Durations are measured here, by a monotonic clock. Times that other machines wrote are never compared with it. What happened to
the job while this machine was offline or stood still is unknown, so that time does not count against it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pod.clock import Clock
from pod.job.silence import POLLS, Silence
from pod.plane.control import Control, JobState
from pod.plane.control_plane import ControlPlane
from pod.run import Run
from pod.services.service import Service
from pod.slices.accelerators import Accelerator
from pod.slices.slice_decisions import JobSeen, SliceSeen
from pod.slices.slice_request import INCARNATION, check_owner


@dataclass(frozen=True)
class Observation:
    """One observation.

    Attributes:
      slice: the slice.
      job: the job, for decisions.
      state: the job as its keeper wrote it; None if it is of another slice or job.
      control: the bucket's `control.json`, or None.
      newly_ready: whether the slice has become ready.
    """

    slice: SliceSeen
    job: JobSeen
    state: JobState | None
    control: Control | None
    newly_ready: bool


class Observer:
    """Observes one run.

    Attributes:
      ready: whether the slice was ready at the last observation.
      seen: whether a slice of the wanted incarnation has been seen.
    """

    def __init__(
        self,
        run: Run,
        accelerator: Accelerator,
        service: Service,
        plane: ControlPlane,
        clock: Clock,
        poll_seconds: float,
    ):
        self._run, self._accelerator = run, accelerator
        self._service, self._plane, self._clock = service, plane, clock
        self._known = self._asked = False
        self._state: tuple[str, ...] = ()
        self._since, self._runs = 0.0, 0
        self._silence, self._longest_pause = Silence(clock), POLLS * poll_seconds
        self.ready = self.seen = False

    def look(self, wanted: Control, version: str, *, published: bool) -> Observation:
        """Observes once.

        Args:
          wanted: the supervisor's `control.json`.
          version: the version of the API that has the slice.
          published: whether `wanted` is in the bucket, so that the machines' reports are about it.

        Raises:
          ApiError, CredentialsError, ControlError: the service or the bucket does not answer now.
          Refused: the slice is not this run's.
        """
        resource, node = self._service.queued_resource(self._run.name, version), None
        if resource is not None and resource.state == "ACTIVE":
            node = self._service.node(resource.node or self._run.name, version)
        job = self._plane.read_job() if published else None
        control = self._plane.read_control() if published else None
        incarnation, known, asked = "", self._known, self._asked
        if resource is not None:
            check_owner(resource, self._run, self._accelerator)
            incarnation = resource.metadata.get(INCARNATION, "")
            self._known, self._asked = True, False
            self.seen = self.seen or incarnation in ("", wanted.incarnation)
        now, was_ready = self._clock.monotonic(), self.ready
        self.ready = node is not None and node.state == "READY"
        state = ("" if resource is None else resource.state, "" if node is None else node.state, incarnation)
        if state != self._state:
            self._state, self._since = state, now
        newly_ready = self.ready and not was_ready
        if newly_ready:
            self._silence = Silence(self._clock)
        stale = bool(incarnation) and incarnation != wanted.incarnation
        mine = job.value if job is not None and _is_about(job.value, wanted) else None
        return Observation(
            slice=SliceSeen(resource, node, known, asked, now - self._since, stale),
            job=self._job_seen(mine),
            state=mine,
            control=None if control is None else control.value,
            newly_ready=newly_ready,
        )

    def note_asked(self, asked: bool) -> None:
        """Notes that a slice was requested or refused."""
        self._known, self._asked, self._since = False, asked, self._clock.monotonic()

    def note_removed(self) -> None:
        """Notes that this supervisor has deleted the slice."""
        self._known = self._asked = self.ready = False
        self._state = ()

    def note_new_incarnation(self) -> None:
        """Notes that another incarnation is wanted."""
        self.seen = False

    def _job_seen(self, job: JobState | None) -> JobSeen:
        if job is not None and job.state == "running":
            self._runs += 1  # a restart gets as much time as the first start
        written = None if job is None else (job.updated, job.attempt, job.state)
        unchanged = self._silence.look({"keeper": written, "runs": self._runs}, self._longest_pause)
        since_ready = unchanged["runs"] if self.ready else 0.0
        if job is None:
            return JobSeen(ready_seconds=since_ready, silent_seconds=since_ready)
        return JobSeen(
            state=job.state,
            outcome=job.outcome,
            message=job.message,
            exit_code=job.exit_code or 0,
            silent_seconds=unchanged["keeper"],
            ready_seconds=since_ready,
        )


def _is_about(job: JobState, wanted: Control) -> bool:
    return job.incarnation == wanted.incarnation and job.job == wanted.job.id
