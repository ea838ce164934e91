"""Jobs, and what their keeper sees of the workers, for the tests of what follows from it."""

import dataclasses

from pod.job import failures
from pod.job.job_seen import Seen, WorkerSeen
from pod.plane import control
from pod.plane.control import Bounds, Control, Job, JobState, WorkerReport

NOW = 1_000_000.0
BOUNDS = Bounds(
    poll_seconds=10,
    grace_seconds=100,
    stop_seconds=500,
    setup_seconds=1000,
    heartbeat_seconds=300,
    stall_seconds=7000,
    lock_seconds=60,
)
WANTED = Control(
    run="b7",
    incarnation="word",
    want="run",
    job=Job("id", "key", ("--a=b",), "code-1.tar.gz"),
    queued_resource="projects/p/locations/z/queuedResources/b7",
    workers=2,
    deadline=NOW + 10_000,
    max_restarts=5,
    idle_seconds=3600,
    bounds=BOUNDS,
)
JOB = JobState(incarnation="word", job="id", attempt=3, state="running", since=NOW - 50)
SETUP = dataclasses.replace(JOB, state="setup", not_before=0.0)
ENDED = dataclasses.replace(JOB, state="ended", outcome=control.FINISHED, since=NOW - 10)


def ready(attempt: int = 3, **more) -> WorkerReport:
    return WorkerReport(**{"state": "ready", "attempt": attempt, "job": "id", **more})


def running(attempt: int = 3, **more) -> WorkerReport:
    return ready(attempt, **{"state": "running", **more})


def ended(code: int | None, at: float = 10.0, kind: str = "", **more) -> WorkerReport:
    kind = kind or failures.kind_of(code, "")
    return ready(**{"state": "ended", "exit_code": code, "ended_at": at, "kind": kind, "message": "said", **more})


def seen(*reports, **more) -> Seen:
    """Sees workers; a pair is a report and how long it has been silent."""
    workers = [WorkerSeen(*report) if isinstance(report, tuple) else WorkerSeen(report) for report in reports]
    return Seen(now=NOW, workers=tuple(workers), **more)


def wanted(**changes) -> Control:
    return dataclasses.replace(WANTED, **changes)


def job(base: JobState, **changes) -> JobState:
    return dataclasses.replace(base, **changes)
