"""Decides what to do next with the job, from what all workers report: pure functions over plain values.

These are the rules of docs/pods.md about the trainer's ends. An attempt starts only when no worker runs an earlier one.
Requests to the workers are part of the job's state, so a restarted keeper continues from there. The slice belongs to the
supervisor; without one, worker 0 gives it back.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pod.job import failures
from pod.job.job_ends import again, conclude, end
from pod.job.job_seen import Seen, WorkerSeen
from pod.plane import control
from pod.plane.control import Control, JobState

RETRIES = 3  # of a job on a sick slice without a supervisor to replace it


@dataclass(frozen=True)
class Decision:
    """The job's next state, and whether worker 0 is to delete the slice."""

    job: JobState
    delete: bool = False


def decide(wanted: Control, job: JobState | None, seen: Seen) -> Decision:
    """Returns what to do next.

    Args:
      wanted: the desired state, from supervisors and commands.
      job: the state written last, by whichever keeper; None if there is none.
      seen: what is seen now.
    """
    job = _adopt(wanted, job, seen)
    progress = seen.progress(job.attempt)
    if progress > job.progress:
        job = dataclasses.replace(job, progress=progress, restarts=0, crashes=0, tpu_failures=0, retries=0)
    if job.state == "ended":
        return _after_the_end(wanted, job, seen)
    if job.state == "setup":
        return Decision(_set_up(wanted, job, seen))
    return Decision(_watch(wanted, job, seen))


def is_forsaken(wanted: Control, now: float, silent_seconds: float, running: bool) -> bool:
    """Returns whether any worker is to delete the slice because worker 0 no longer keeps the job.

    Args:
      wanted: the desired state, from supervisors and commands.
      now: seconds since 1970.
      silent_seconds: time since the last write of `job.json`, counted only while the bucket could be read.
      running: whether a trainer runs on this worker. It ends soon if worker 0 is gone. If only worker 0's agent is gone, the
        job may run until its deadline.
    """
    over = bool(wanted.deadline) and now > wanted.deadline + wanted.bounds.stop_seconds
    return silent_seconds > wanted.idle_seconds and (over or not running)


def _adopt(wanted: Control, job: JobState | None, seen: Seen) -> JobState:
    """Returns the state of the wanted job on the slice that may run it."""
    fresh = JobState(incarnation=wanted.incarnation, job=wanted.job.id, since=seen.now, message="setting up")
    if job is None:
        return fresh
    if job.incarnation != wanted.incarnation:
        if job.job != wanted.job.id:
            return dataclasses.replace(fresh, attempt=job.attempt)
        return dataclasses.replace(
            fresh, attempt=job.attempt, progress=job.progress, restarts=job.restarts, preemptions=job.preemptions
        )
    if job.job != wanted.job.id and job.state != "running":  # a running job is asked to stop first
        return dataclasses.replace(fresh, attempt=job.attempt)
    return job


def _set_up(wanted: Control, job: JobState, seen: Seen) -> JobState:
    if wanted.deadline and seen.now >= wanted.deadline:
        return end(job, seen, control.DEADLINE, "the deadline was reached before the job started")
    if wanted.want == "stop":
        return end(job, seen, control.STOPPED, "stopped as asked; nothing was running")
    waiting = [
        (index, words) for index, worker in enumerate(seen.workers) if (words := _not_ready(wanted, job, worker)) != ""
    ]
    if not waiting:
        if seen.now < job.not_before:
            return job
        return dataclasses.replace(
            again(job, seen, "", pause=0.0),
            attempt=max([job.attempt, *(worker.last_report.attempt for worker in seen.workers)]) + 1,
            state="running",
            first_end=0.0,
            exit_code=None,
            first_worker=None,
        )
    index, words = waiting[0]
    words = f"worker {index} {words}" + (f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else "")
    dead = [index for index, _ in waiting if seen.workers[index].is_dead(wanted.bounds)]
    failed = [index for index, _ in waiting if (report := seen.workers[index].report) and report.state == "failed"]
    if dead or failed or seen.now - job.since > wanted.bounds.setup_seconds:
        first = (dead or failed or [index])[0]
        words = f"worker {first} {_not_ready(wanted, job, seen.workers[first])}"
        # The set-up had enough time, so without a supervisor the slice is given back at once.
        job = dataclasses.replace(job, retries=RETRIES)
        return end(job, seen, control.SICK_SLICE, f"the slice cannot be set up: {words}", first_worker=first)
    return dataclasses.replace(job, message=f"waiting: {words}")


def _not_ready(wanted: Control, job: JobState, worker: WorkerSeen) -> str:
    """Returns what keeps a worker from the next attempt, as words after its number; "" for nothing."""
    report = worker.report
    if report is None:
        return "has not answered yet"
    if worker.is_dead(wanted.bounds):
        return f"has given no sign of life for {worker.silent_seconds:.0f} s"
    if report.notice:
        return f"was told: {report.notice}"
    if report.state == "failed":
        return f"could not be set up: {report.message}"
    if report.job != wanted.job.id or report.state in ("fetched", "setup"):
        return f"is being set up{': ' if report.message else ''}{report.message}"
    if report.state == "running":
        return f"still runs attempt {report.attempt}"
    return ""


def _watch(wanted: Control, job: JobState, seen: Seen) -> JobState:
    """Returns the next state of an attempt that has been started."""
    reason = _wish(wanted, job, seen)
    ended = [index for index, worker in enumerate(seen.workers) if worker.has_ended(job.attempt)]
    dead = [i for i, worker in enumerate(seen.workers) if i not in ended and worker.is_dead(wanted.bounds)]
    if len(ended) == len(seen.workers) or (ended and len(ended) + len(dead) == len(seen.workers)):
        return conclude(wanted, job, seen, dead, reason or job.reason)
    if ended and not job.first_end:
        job = dataclasses.replace(job, first_end=seen.now)
    if job.ask == "kill":
        if seen.now - job.asked_at > wanted.bounds.heartbeat_seconds:
            left = next(index for index in range(len(seen.workers)) if index not in ended)
            return end(job, seen, control.SICK_SLICE, f"the job on worker {left} does not end", first_worker=left)
        return job
    if job.ask == "stop":
        patience = wanted.bounds.grace_seconds if job.reason in ("grace", "stall") else wanted.bounds.stop_seconds
        # A user's request replaces one of the keeper's own: it has more patience and another outcome.
        if reason and job.reason in ("grace", "stall"):
            return dataclasses.replace(job, reason=reason)
        return _ask(job, seen, "kill", job.reason) if seen.now - job.asked_at > patience else job
    if reason:
        return _ask(job, seen, "stop", reason)
    if ended:
        all_finished = all(seen.workers[index].last_report.kind == failures.FINISHED for index in ended)
        patience = wanted.bounds.grace_seconds * (5 if all_finished else 1)
        if seen.now - job.first_end > patience:
            return _ask(job, seen, "stop", "grace")
    if seen.log_silent_seconds(job.attempt) > wanted.bounds.stall_seconds:
        return _ask(job, seen, "stop", "stall")
    late = not all(worker.has_started(job.attempt) for worker in seen.workers)
    if late and seen.now - job.since > wanted.bounds.setup_seconds:
        return _ask(job, seen, "stop", "grace")
    return job


def _wish(wanted: Control, job: JobState, seen: Seen) -> str:
    """Returns the reason if a user or the deadline stops the job, else ""."""
    if wanted.deadline and seen.now >= wanted.deadline:
        return "deadline"
    if wanted.want == "stop" or wanted.job.id != job.job:
        return "user"
    return ""


def _ask(job: JobState, seen: Seen, ask: str, reason: str) -> JobState:
    return dataclasses.replace(job, ask=ask, asked_at=seen.now, reason=reason, message=f"asked to end: {reason}")


def _after_the_end(wanted: Control, job: JobState, seen: Seen) -> Decision:
    past_deadline = bool(wanted.deadline) and seen.now >= wanted.deadline
    if job.outcome == control.STOPPED and wanted.want == "run" and not past_deadline:
        return Decision(again(dataclasses.replace(job, outcome=""), seen, "wanted again", pause=0.0))
    idle = seen.now - job.since > wanted.idle_seconds
    if idle:
        return Decision(job, delete=True)
    if seen.supervised or job.outcome == control.STOPPED:
        return Decision(job)
    if job.outcome == control.SICK_SLICE and job.retries < RETRIES and wanted.want == "run" and not past_deadline:
        retried = again(job, seen, "nobody replaces the slice: trying once more", wanted.bounds.poll_seconds)
        return Decision(dataclasses.replace(retried, outcome="", crashes=0, tpu_failures=0, retries=job.retries + 1))
    return Decision(job, delete=not wanted.keep)
