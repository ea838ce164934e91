"""What all workers report, and what to do next with the job: pure functions over plain values.

Owns the rules of docs/pods.md about the trainer's ends. Never calls anything and asks no clock. A job is started only when no
worker runs an earlier attempt; what it is asked for on the way is written into its state, so that a keeper that starts anew
goes on from there. The slice itself is the supervisor's: without one, worker 0 gives it back.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pod import control, failures
from pod.control import Control, JobState, WorkerReport

CRASHES_WITHOUT_A_STEP = 3  # on one slice, until it counts as sick
TPU_FAILURES = 2  # in a row; the first may be of a process that had not quite ended
RETRIES = 3  # of a job on a sick slice that no supervisor replaces
_FINAL = {
    failures.CONFIGURATION: control.CONFIGURATION,
    failures.DATA: control.DATA,
    failures.TRAINING: control.TRAINING,
    failures.MEMORY: control.MEMORY,
}
_EXPLANATIONS = {
    failures.CONFIGURATION: "the configuration cannot work, and starting again changes nothing",
    failures.DATA: "data is missing or damaged; see --data and python -m pipeline.prepare",
    failures.TRAINING: "training must not go on (a loss that is not finite, for example); "
    "a checkpoint from before is kept",
    failures.MEMORY: "the model does not fit the memory: a larger slice, a smaller config.batch_size or "
    "config.model.remat=True",
}


@dataclass(frozen=True)
class WorkerSeen:
    """One worker.

    Attributes:
      report: what it wrote last; None when it never has.
      silent_seconds: without a new sign of life, counted only while the bucket could be read.
    """

    report: WorkerReport | None
    silent_seconds: float = 0.0


@dataclass(frozen=True)
class Seen:
    """Everything that a decision rests on.

    Attributes:
      now: seconds since 1970.
      workers: in the order of their numbers.
      progress: the highest step in worker 0's log of this attempt.
      log_silent_seconds: since worker 0's log last grew.
      supervised: whether a supervisor has given a sign of life.
    """

    now: float
    workers: tuple[WorkerSeen, ...]
    progress: int = 0
    log_silent_seconds: float = 0.0
    supervised: bool = True


@dataclass(frozen=True)
class Decision:
    """The job's next state, and whether worker 0 is to delete the slice."""

    job: JobState
    delete: bool = False


def decide(wanted: Control, job: JobState | None, seen: Seen) -> Decision:
    """Returns what to do next.

    Args:
      wanted: what supervisors and commands want.
      job: the state that was written last, by whichever keeper; None when there is none.
      seen: what there is to see now.
    """
    job = _adopt(wanted, job, seen)
    if seen.progress > job.progress:
        job = dataclasses.replace(job, progress=seen.progress, restarts=0, crashes=0, tpu_failures=0, retries=0)
    if job.state == "ended":
        return _after_the_end(wanted, job, seen)
    if job.state == "setup":
        return Decision(_set_up(wanted, job, seen))
    return Decision(_watch(wanted, job, seen))


def is_forsaken(wanted: Control, now: float, silent_seconds: float, running: bool) -> bool:
    """Returns whether any worker is to delete the slice, as worker 0 does not keep the job any more.

    Args:
      wanted: what supervisors and commands want.
      now: seconds since 1970.
      silent_seconds: since `job.json` was last written, counted only while the bucket could be read.
      running: whether a trainer runs on this worker. It ends soon when worker 0 is gone; an agent that is alone gone is no
        reason to end the job before its deadline.
    """
    over = bool(wanted.deadline) and now > wanted.deadline + wanted.bounds.stop_seconds
    return silent_seconds > wanted.idle_seconds and (over or not running)


def _adopt(wanted: Control, job: JobState | None, seen: Seen) -> JobState:
    """Returns the state of the job that is wanted, on the slice that may run it."""
    fresh = JobState(incarnation=wanted.incarnation, job=wanted.job.id, since=seen.now, message="setting up")
    if job is None:
        return fresh
    if job.incarnation != wanted.incarnation:
        if job.job != wanted.job.id:
            return dataclasses.replace(fresh, attempt=job.attempt)
        return dataclasses.replace(
            fresh, attempt=job.attempt, progress=job.progress, restarts=job.restarts, preemptions=job.preemptions
        )
    if job.job != wanted.job.id and job.state != "running":  # one that runs is asked to stop first
        return dataclasses.replace(fresh, attempt=job.attempt)
    return job


def _set_up(wanted: Control, job: JobState, seen: Seen) -> JobState:
    if wanted.deadline and seen.now >= wanted.deadline:
        return _end(job, seen, control.DEADLINE, "the deadline was reached before the job started")
    if wanted.want == "stop":
        return _end(job, seen, control.STOPPED, "stopped as asked; nothing was running")
    waiting = [
        (index, words) for index, worker in enumerate(seen.workers) if (words := _not_ready(wanted, job, worker)) != ""
    ]
    if not waiting:
        if seen.now < job.not_before:
            return job
        return dataclasses.replace(
            _again(job, seen, "", pause=0.0),
            attempt=max([job.attempt, *(_report(worker).attempt for worker in seen.workers)]) + 1,
            state="running",
            first_end=0.0,
            exit_code=None,
            first_worker=None,
        )
    index, words = waiting[0]
    words = f"worker {index} {words}" + (f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else "")
    dead = [index for index, _ in waiting if _is_dead(wanted, seen.workers[index])]
    failed = [index for index, _ in waiting if _state(seen.workers[index]) == "failed"]
    if dead or failed or seen.now - job.since > wanted.bounds.setup_seconds:
        first = (dead or failed or [index])[0]
        words = f"worker {first} {_not_ready(wanted, job, seen.workers[first])}"
        # It was tried for long enough: with no supervisor the slice is given back at once.
        job = dataclasses.replace(job, retries=RETRIES)
        return _end(job, seen, control.SICK_SLICE, f"the slice cannot be set up: {words}", first_worker=first)
    return dataclasses.replace(job, message=f"waiting: {words}")


def _not_ready(wanted: Control, job: JobState, worker: WorkerSeen) -> str:
    """Returns what keeps a worker from the next attempt, in words that follow its number; "" for nothing."""
    report = worker.report
    if report is None:
        return "has not answered yet"
    if _is_dead(wanted, worker):
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
    ended = [index for index, worker in enumerate(seen.workers) if _has_ended(job, worker)]
    dead = [i for i, worker in enumerate(seen.workers) if i not in ended and _is_dead(wanted, worker)]
    if len(ended) == len(seen.workers) or (ended and len(ended) + len(dead) == len(seen.workers)):
        return _conclude(wanted, job, seen, dead)
    if ended and not job.first_end:
        job = dataclasses.replace(job, first_end=seen.now)
    if job.ask == "kill":
        if seen.now - job.asked_at > wanted.bounds.heartbeat_seconds:
            left = next(index for index in range(len(seen.workers)) if index not in ended)
            return _end(job, seen, control.SICK_SLICE, f"the job on worker {left} does not end", first_worker=left)
        return job
    if job.ask == "stop":
        patience = wanted.bounds.grace_seconds if job.reason in ("grace", "stall") else wanted.bounds.stop_seconds
        # A user's wish outlasts one of the keeper's own: it has the longer patience and another outcome.
        reason = _wish(wanted, job, seen)
        if reason and job.reason in ("grace", "stall"):
            return dataclasses.replace(job, reason=reason)
        return _ask(job, seen, "kill", job.reason) if seen.now - job.asked_at > patience else job
    reason = _wish(wanted, job, seen)
    if reason:
        return _ask(job, seen, "stop", reason)
    if ended:
        all_finished = all(_report(seen.workers[index]).kind == failures.FINISHED for index in ended)
        patience = wanted.bounds.grace_seconds * (5 if all_finished else 1)
        if seen.now - job.first_end > patience:
            return _ask(job, seen, "stop", "grace")
    if seen.log_silent_seconds > wanted.bounds.stall_seconds:
        return _ask(job, seen, "stop", "stall")
    late = [i for i, worker in enumerate(seen.workers) if worker.report is None or worker.report.attempt < job.attempt]
    if late and seen.now - job.since > wanted.bounds.setup_seconds:
        return _ask(job, seen, "stop", "grace")
    return job


def _wish(wanted: Control, job: JobState, seen: Seen) -> str:
    """Returns why the job is to stop by somebody's wish; "" when it is not."""
    if wanted.deadline and seen.now >= wanted.deadline:
        return "deadline"
    if wanted.want == "stop" or wanted.job.id != job.job:
        return "user"
    return ""


def _ask(job: JobState, seen: Seen, ask: str, reason: str) -> JobState:
    return dataclasses.replace(job, ask=ask, asked_at=seen.now, reason=reason, message=f"asked to end: {reason}")


def _conclude(wanted: Control, job: JobState, seen: Seen, dead: list[int]) -> JobState:
    """Returns what follows when no worker runs the attempt any more."""
    reports = {index: _report(worker) for index, worker in enumerate(seen.workers) if index not in dead}
    if not dead and all(report.kind == failures.FINISHED for report in reports.values()):
        return _end(job, seen, control.FINISHED, "finished", exit_code=0)
    if job.reason == "user":
        return _end(job, seen, control.STOPPED, "stopped as asked; the checkpoint is kept", exit_code=75)
    if job.reason == "deadline":
        return _end(job, seen, control.DEADLINE, "the deadline was reached", exit_code=75)
    failed = {index: report for index, report in reports.items() if report.kind != failures.FINISHED}
    first = _first(failed, asked=job.reason != "")
    report = reports[first] if first is not None else None
    if report is not None and report.kind in _FINAL:
        words = f"{_EXPLANATIONS[report.kind]}. Worker {first} said:\n{report.message}"
        return _end(job, seen, _FINAL[report.kind], words, first_worker=first, exit_code=_code(report))
    if dead:
        words = f"worker {dead[0]} has given no sign of life for {seen.workers[dead[0]].silent_seconds:.0f} s"
        return _end(job, seen, control.SICK_SLICE, words, first_worker=dead[0])
    code = report.exit_code if report is not None else None
    words = (
        f"worker {first} failed first (status {'lost' if code is None else code}):\n{report.message if report else ''}"
    )
    if report is not None and report.kind == failures.PREEMPTED and job.reason != "stall":
        again = _again(job, seen, f"saved a checkpoint as worker {first} was asked to stop", pause=0.0)
        return dataclasses.replace(again, preemptions=job.preemptions + 1)
    job = dataclasses.replace(
        job,
        restarts=job.restarts + 1,
        crashes=job.crashes + 1,
        tpu_failures=job.tpu_failures + 1 if report is not None and report.kind == failures.TPU else 0,
        first_worker=first,
        exit_code=code,
    )
    if job.tpu_failures >= TPU_FAILURES:
        return _end(
            job, seen, control.SICK_SLICE, f"the TPU does not come up: {words}", first_worker=first, exit_code=code
        )
    if job.restarts > wanted.max_restarts:
        words = f"that was failure number {job.restarts} without progress, and --max-restarts is {wanted.max_restarts}: {words}"
        return _end(job, seen, control.GAVE_UP, words, first_worker=first, exit_code=code)
    if job.crashes >= CRASHES_WITHOUT_A_STEP:
        words = f"{job.crashes} crashes in a row without a new step: {words}"
        return _end(job, seen, control.SICK_SLICE, words, first_worker=first, exit_code=code)
    pause = wanted.bounds.poll_seconds * 2 ** min(job.restarts - 1, 4)
    return _again(job, seen, f"restart {job.restarts} of {wanted.max_restarts}: {words}", pause)


def _first(failed: dict[int, WorkerReport], asked: bool) -> int | None:
    """Returns who failed first.

    Who left no exit code left no time either, and counts only when nobody else failed; who saved because the keeper had asked
    did not fail at all.
    """

    def rank(index: int) -> tuple[int, float, int]:
        kind = failed[index].kind
        order = 2 if kind == failures.PREEMPTED and asked else 1 if kind == failures.LOST else 0
        return order, failed[index].ended_at, index

    return min(failed, key=rank, default=None)


def _code(report: WorkerReport) -> int | None:
    return 70 if report.kind == failures.MEMORY else report.exit_code


def _again(job: JobState, seen: Seen, message: str, pause: float) -> JobState:
    return dataclasses.replace(
        job,
        state="setup",
        since=seen.now,
        not_before=seen.now + pause,
        message=message,
        ask="",
        asked_at=0.0,
        reason="",
    )


def _end(
    job: JobState,
    seen: Seen,
    outcome: str,
    message: str,
    *,
    first_worker: int | None = None,
    exit_code: int | None = None,
) -> JobState:
    return dataclasses.replace(
        job,
        state="ended",
        outcome=outcome,
        message=message,
        first_worker=first_worker,
        exit_code=exit_code,
        since=seen.now,
    )


def _after_the_end(wanted: Control, job: JobState, seen: Seen) -> Decision:
    past_deadline = bool(wanted.deadline) and seen.now >= wanted.deadline
    if job.outcome == control.STOPPED and wanted.want == "run" and not past_deadline:
        return Decision(_again(dataclasses.replace(job, outcome=""), seen, "wanted again", pause=0.0))
    idle = seen.now - job.since > wanted.idle_seconds
    if idle:
        return Decision(job, delete=True)
    if seen.supervised or job.outcome == control.STOPPED:
        return Decision(job)
    if job.outcome == control.SICK_SLICE and job.retries < RETRIES and wanted.want == "run" and not past_deadline:
        again = _again(job, seen, "nobody replaces the slice: trying once more", wanted.bounds.poll_seconds)
        return Decision(dataclasses.replace(again, outcome="", crashes=0, tpu_failures=0, retries=job.retries + 1))
    return Decision(job, delete=not wanted.keep)


def _report(worker: WorkerSeen) -> WorkerReport:
    assert worker.report is not None, "only of workers that have written one"
    return worker.report


def _state(worker: WorkerSeen) -> str:
    return worker.report.state if worker.report is not None else ""


def _has_ended(job: JobState, worker: WorkerSeen) -> bool:
    report = worker.report
    return report is not None and report.attempt == job.attempt and report.state != "running"


def _is_dead(wanted: Control, worker: WorkerSeen) -> bool:
    bound = wanted.bounds.heartbeat_seconds if worker.report is not None else wanted.bounds.setup_seconds
    return worker.silent_seconds > bound
