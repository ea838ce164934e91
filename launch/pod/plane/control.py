"""What supervisor, keeper and agents tell each other: the contents of the control plane's objects.

Owns their schema, which `FORMAT` numbers. An incarnation is the random word of one slice: `control.json` names the one that may
run, so a job runs once whoever asks. Keys that a later launcher adds are left out; another format is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1

# Why a job has ended for good; `sick_slice`: it may go on elsewhere.
FINISHED, STOPPED, CONFIGURATION, DATA, TRAINING = "finished", "stopped", "configuration", "data", "training"
MEMORY, GAVE_UP, DEADLINE, SICK_SLICE = "memory", "gave_up", "deadline", "sick_slice"


@dataclass(frozen=True)
class Bounds:
    """How long things on the slice may take, in seconds; the names are those of `options.Limits`.

    Attributes:
      poll_seconds: between two looks of an agent at the bucket, which are its signs of life; also before the first restart
        after a crash, doubled for each further one, at most sixteenfold.
      grace_seconds: for the other workers to end by themselves after one has failed, and again after they were asked.
      stop_seconds: for a checkpoint when the job is asked to stop.
      setup_seconds: for code and packages on all workers.
      heartbeat_seconds: of silence after which a worker counts as dead, and its slice as sick.
      stall_seconds: without a line in the log before the job is ended and started again.
      lock_seconds: between two renewals of the supervisor's lock; without six of them there is no supervisor.
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
    """What is to run.

    Attributes:
      id: a random word for each time that a user asks for a start (`up`, `resume`); joining keeps it.
      key: tells this job from another: a hash of its arguments and of the names in its environment.
      arguments: of `python -m pipeline.train`, byte for byte.
      code: the object below the control plane that holds the checkout's files, "code-<sha256>.tar.gz".
      environment: the object with the trainer's environment, a JSON object; "" for none.
      secrets: names in the environment, each with a version in Secret Manager ("projects/…/secrets/…/versions/…").
      mount: a bucket to be mounted read-only beside the code as `data`; "" for none.
      platform: what JAX must find there.
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
    """Who looks after the slice from outside, and when it last said so (seconds since 1970)."""

    owner: str
    seen: float


@dataclass(frozen=True)
class Control:
    """What is wanted (`control.json`).

    Attributes:
      run: the run's name.
      incarnation: the slice that may run the job; written before that slice is asked for.
      want: "run" or "stop".
      job: what is to run.
      queued_resource: "projects/P/locations/Z/queuedResources/N".
      workers: how many machines the slice has.
      deadline: when everything ends, in seconds since 1970; 0 for never.
      max_restarts: crashes in a row without progress before the job is given up.
      keep: whether the slice stays when the job has ended, for `idle_seconds` at most.
      idle_seconds: with nothing running and no supervisor, until worker 0 deletes the slice.
      bounds: see `Bounds`.
      logs: the workers whose logs are wanted as they grow, beside worker 0's.
      supervisor: None while there is none.
      format: of all objects here.
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
    """Where the job is (`job.json`), as its keeper on worker 0 last wrote it.

    Attributes:
      incarnation: the slice on which it is.
      job: the id of the job that this is about.
      attempt: the number of its last start, over all slices; 0 before the first.
      state: "setup", "running" or "ended".
      ask: what the workers are to do with this attempt: "" to go on, "stop" to save and end, "kill" to end now.
      asked_at: since when, in seconds since 1970.
      reason: why they were asked: "user", "deadline", "grace" or "stall".
      first_end: when the end of the first worker was seen; 0 while all run.
      not_before: the next attempt starts no earlier.
      outcome: why it has ended, one of the words above; "" while it has not.
      exit_code: of the worker that failed first; None when it ended without leaving one.
      first_worker: the worker that failed first; None when none did.
      message: for people: why, or what is waited for.
      progress: the highest step that was seen, over all attempts.
      restarts: starts after crashes since the last progress.
      crashes: crashes in a row, on this slice, without a new step.
      tpu_failures: how many of them because the TPU did not come up.
      preemptions: starts after a saved checkpoint that nobody had asked for.
      retries: times that a sick slice was tried again as no supervisor replaced it.
      since: when this state began.
      updated: when this was written.
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
    """What one worker says of itself.

    Attributes:
      state: "fetched" (the code is there), "setup", "ready", "running", "ended" (the trainer has) or "failed" (the set-up
        has, for good).
      attempt: the last attempt that it started; 0 for none.
      exit_code: of that attempt, when it has ended; None also when the process vanished without one.
      ended_at: when, in seconds since 1970.
      kind: why, in a word of `failures`: "finished", "preempted", "crash", "lost", …
      message: the last lines of a failure, or what the set-up is waiting for.
      boot_id: tells one start of the machine from the next.
      environment: the object or "" whose content this worker holds.
      job: the id of the job that it is set up for.
      log_pieces: how many pieces of this attempt's log are in the bucket.
      step: the highest step in this attempt's log. One process of a job reports steps, on whichever worker it is.
      log_silent_seconds: since that log grew, while the trainer runs.
      notice: what the metadata server has announced, such as "preempted"; "" for nothing.
      heartbeat: when this was written.
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
      ValueError: it was written by a launcher of another format.
    """
    _check_format(value)
    fields = _known(Control, value)
    fields["job"] = Job(**{**_known(Job, value["job"]), "arguments": tuple(value["job"]["arguments"])})
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
