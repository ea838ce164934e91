"""The contents of the control plane's objects, by which supervisor, keeper and agents communicate.

`FORMAT` is the version of their schema. An incarnation is the random identifier of one slice. `control.json` names the one that
may run, so a job runs once, whoever starts it. Keys that a later launcher adds are ignored; another format is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1

# Why a job has ended for good; after `sick_slice` it may continue on another slice.
FINISHED, STOPPED, CONFIGURATION, DATA, TRAINING = "finished", "stopped", "configuration", "data", "training"
MEMORY, GAVE_UP, DEADLINE, SICK_SLICE = "memory", "gave_up", "deadline", "sick_slice"


@dataclass(frozen=True)
class Bounds:
    """The time limits on the slice, in seconds; the names are those of `options.Limits`.

    Attributes:
      poll_seconds: between two reads of the bucket by an agent, which are its heartbeat. Also the pause before the first
        restart after a crash; it doubles for each further one, up to sixteenfold.
      grace_seconds: for the other workers to end by themselves after one has failed, and again after they were asked.
      stop_seconds: for a checkpoint when the job is asked to stop.
      setup_seconds: for code and packages on all workers.
      heartbeat_seconds: silence after which a worker counts as dead, and its slice as sick.
      stall_seconds: time without a log line before the job is ended and restarted.
      lock_seconds: between two renewals of the supervisor's lock; after six missed ones there is no supervisor.
    """

    poll_seconds: float = 20.0
    grace_seconds: float = 120.0
    stop_seconds: float = 600.0
    setup_seconds: float = 1800.0
    heartbeat_seconds: float = 300.0
    stall_seconds: float = 7200.0
    lock_seconds: float = 60.0


@dataclass(frozen=True)
class Job:
    """The job to run.

    Attributes:
      id: a random identifier for each start by a user (`up`, `resume`); joining keeps it.
      key: the identity of the job: a hash of its arguments and of the names in its environment.
      arguments: the arguments of `python -m pipeline.train`, byte for byte.
      code: the object below the control plane with the checkout's files, "code-<sha256>.tar.gz".
      environment: the object with the trainer's environment, a JSON object; "" for none.
      secrets: names in the environment, each with a version in Secret Manager ("projects/…/secrets/…/versions/…").
      mount: a bucket to be mounted read-only beside the code as `data`; "" for none.
      platform: the platform that JAX must find.
    """

    id: str
    key: str
    arguments: tuple[str, ...]
    code: str
    environment: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)
    mount: str = ""
    platform: str = "tpu"


@dataclass(frozen=True)
class Supervisor:
    """The supervisor of the slice, and its last heartbeat in seconds since 1970."""

    owner: str
    seen: float


@dataclass(frozen=True)
class Control:
    """The desired state of a run (`control.json`).

    Attributes:
      run: the run's name.
      incarnation: the slice that may run the job; written before that slice is requested.
      want: "run" or "stop".
      job: the job to run.
      queued_resource: "projects/P/locations/Z/queuedResources/N".
      workers: the number of machines of the slice.
      deadline: the time when everything ends, in seconds since 1970; 0 for never.
      max_restarts: crashes in a row without progress before the job is given up.
      keep: whether the slice stays when the job has ended, for `idle_seconds` at most.
      idle_seconds: time without a job and a supervisor after which worker 0 deletes the slice.
      bounds: see `Bounds`.
      logs: the workers, besides worker 0, whose logs are to be sent as they grow.
      supervisor: the supervisor, or None.
      format: the version of all objects here.
    """

    run: str
    incarnation: str
    want: str
    job: Job
    queued_resource: str
    workers: int
    deadline: float = 0.0
    max_restarts: int = 20
    keep: bool = False
    idle_seconds: float = 3600.0
    bounds: Bounds = Bounds()
    logs: tuple[int, ...] = ()
    supervisor: Supervisor | None = None
    format: int = FORMAT


@dataclass(frozen=True)
class JobState:
    """The state of the job (`job.json`), as its keeper on worker 0 last wrote it.

    Attributes:
      incarnation: the slice of the job.
      job: the id of the job.
      attempt: the number of its last start, over all slices; 0 before the first.
      state: "setup", "running" or "ended".
      ask: what the workers are to do with this attempt: "" to continue, "stop" to save and end, "kill" to end now.
      asked_at: the time of that request, in seconds since 1970.
      reason: why they were asked: "user", "deadline", "grace" or "stall".
      first_end: the time when the end of the first worker was seen; 0 while all run.
      not_before: the earliest time of the next attempt.
      outcome: why it has ended, one of the words above; "" until it has.
      exit_code: the exit code of the worker that failed first; None if it left none.
      first_worker: the worker that failed first, or None.
      message: the reason, or what is being waited for, as text.
      progress: the highest step seen, over all attempts.
      restarts: starts after crashes since the last progress.
      crashes: consecutive crashes on this slice without a new step.
      tpu_failures: the number of those in which the TPU did not come up.
      preemptions: starts after a checkpoint that nobody had requested.
      retries: how often a sick slice was tried again because no supervisor replaced it.
      since: the time when this state began.
      updated: the time of this write.
    """

    incarnation: str
    job: str
    attempt: int = 0
    state: str = "setup"
    ask: str = ""
    asked_at: float = 0.0
    reason: str = ""
    first_end: float = 0.0
    not_before: float = 0.0
    outcome: str = ""
    exit_code: int | None = None
    first_worker: int | None = None
    message: str = ""
    progress: int = 0
    restarts: int = 0
    crashes: int = 0
    tpu_failures: int = 0
    preemptions: int = 0
    retries: int = 0
    since: float = 0.0
    updated: float = 0.0
    format: int = FORMAT


@dataclass(frozen=True)
class WorkerReport:
    """The report of one worker.

    Attributes:
      state: "fetched" (the code is there), "setup", "ready", "running", "ended" (of the trainer) or "failed" (of the set-up,
        for good).
      attempt: the last attempt that it started; 0 for none.
      exit_code: the exit code of that attempt once it has ended; None also if the process vanished without one.
      ended_at: the time of that end, in seconds since 1970.
      kind: the kind of that end, a word of `failures`: "finished", "preempted", "crash", "lost", …
      message: the last lines of a failure, or what the set-up is waiting for.
      boot_id: identifies one start of the machine.
      environment: the object, or "", whose content this worker has.
      job: the id of the job that it is set up for.
      log_pieces: the number of pieces of this attempt's log in the bucket.
      step: the highest step in this attempt's log. One process of a job reports steps, on whichever worker.
      log_silent_seconds: time since that log grew, while the trainer runs.
      notice: the metadata server's notice, such as "preempted"; "" for none.
      heartbeat: the time of this write.
    """

    state: str
    attempt: int = 0
    exit_code: int | None = None
    ended_at: float = 0.0
    kind: str = ""
    message: str = ""
    boot_id: str = ""
    environment: str = ""
    job: str = ""
    log_pieces: int = 0
    step: int = 0
    log_silent_seconds: float = 0.0
    notice: str = ""
    heartbeat: float = 0.0


def control_from(value: Mapping[str, Any]) -> Control:
    """Returns the contents of `control.json`.

    Raises:
      ValueError: it has another format.
    """
    _check_format(value)
    fields = _known(Control, value)
    job: dict[str, Any] = {**_known(Job, value["job"]), "arguments": tuple(value["job"]["arguments"])}
    fields["job"] = Job(**job)
    fields["bounds"] = Bounds(**_known(Bounds, value.get("bounds", {})))
    fields["logs"] = tuple(value.get("logs", ()))
    supervisor = value.get("supervisor")
    fields["supervisor"] = Supervisor(**_known(Supervisor, supervisor)) if supervisor else None
    return Control(**fields)


def job_from(value: Mapping[str, Any]) -> JobState:
    """Returns the contents of `job.json`; raises ValueError as `control_from`."""
    _check_format(value)
    return JobState(**_known(JobState, value))


def report_from(value: Mapping[str, Any]) -> WorkerReport:
    """Returns a worker's report."""
    return WorkerReport(**_known(WorkerReport, value))


def _check_format(value: Mapping[str, Any]) -> None:
    if value.get("format") != FORMAT:
        raise ValueError(
            f"its format is {value.get('format')!r} and this launcher's is {FORMAT}; use the checkout that started the run"
        )


def _known(kind: type, value: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in dataclasses.fields(kind)}
    return {name: item for name, item in value.items() if name in names}
