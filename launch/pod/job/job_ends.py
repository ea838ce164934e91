"""Judges how an attempt ended as a whole, and whether the job begins another: pure functions over plain values.

Restarts count from the last progress; crashes without a step count from the slice's beginning. The worker that failed first
decides. A save that the keeper requested is no failure. A user's request comes before everything but success.
"""

from __future__ import annotations

import dataclasses

from pod.job import failures
from pod.job.job_seen import Seen
from pod.plane import control
from pod.plane.control import Control, JobState, WorkerReport

CRASHES_WITHOUT_A_STEP = 3  # until the slice counts as sick
TPU_FAILURES = 2  # in a row; the first may be caused by a process that is just ending
_FINAL = {
    failures.CONFIGURATION: control.CONFIGURATION,
    failures.DATA: control.DATA,
    failures.TRAINING: control.TRAINING,
    failures.MEMORY: control.MEMORY,
}
_EXPLANATIONS = {
    failures.CONFIGURATION: "the configuration cannot work, and starting again changes nothing",
    failures.DATA: "data is missing or damaged; see --data and python -m pipeline.prepare",
    failures.TRAINING: "training must not continue (for example because a loss is not finite); "
    "a checkpoint from before is kept",
    failures.MEMORY: "the model does not fit the memory: a larger slice, a smaller config.batch_size or "
    "config.model.remat=True",
}


def conclude(wanted: Control, job: JobState, seen: Seen, dead: list[int], reason: str) -> JobState:
    """Returns what follows once no worker runs the attempt.

    Args:
      wanted: the desired state, from supervisors and commands.
      job: the job's state.
      seen: all workers.
      dead: the numbers of the workers that fell silent.
      reason: why the job was, or is now, asked to end; "" if it ended by itself.
    """
    reports = {index: worker.last_report for index, worker in enumerate(seen.workers) if index not in dead}
    if not dead and all(report.kind == failures.FINISHED for report in reports.values()):
        return end(job, seen, control.FINISHED, "finished", exit_code=0)
    if reason == "user":
        return end(job, seen, control.STOPPED, "stopped as asked; the checkpoint is kept", exit_code=75)
    if reason == "deadline":
        return end(job, seen, control.DEADLINE, "the deadline was reached", exit_code=75)
    failed = {index: report for index, report in reports.items() if report.kind != failures.FINISHED}
    first = _first(failed, asked=reason != "")
    report = reports[first] if first is not None else None
    if report is not None and report.kind in _FINAL:
        words = f"{_EXPLANATIONS[report.kind]}. Worker {first} said:\n{report.message}"
        return end(job, seen, _FINAL[report.kind], words, first_worker=first, exit_code=_code(report))
    if dead:
        words = f"worker {dead[0]} has given no sign of life for {seen.workers[dead[0]].silent_seconds:.0f} s"
        return end(job, seen, control.SICK_SLICE, words, first_worker=dead[0])
    code = report.exit_code if report is not None else None
    words = (
        f"worker {first} failed first (status {'lost' if code is None else code}):\n{report.message if report else ''}"
    )
    if report is not None and report.kind == failures.PREEMPTED and reason != "stall":
        next_one = again(job, seen, f"saved a checkpoint as worker {first} was asked to stop", pause=0.0)
        return dataclasses.replace(next_one, preemptions=job.preemptions + 1)
    job = dataclasses.replace(
        job,
        restarts=job.restarts + 1,
        crashes=job.crashes + 1,
        tpu_failures=job.tpu_failures + 1 if report is not None and report.kind == failures.TPU else 0,
        first_worker=first,
        exit_code=code,
    )
    if job.tpu_failures >= TPU_FAILURES:
        return end(
            job, seen, control.SICK_SLICE, f"the TPU does not come up: {words}", first_worker=first, exit_code=code
        )
    if job.restarts > wanted.max_restarts:
        words = f"that was failure number {job.restarts} without progress, and --max-restarts is {wanted.max_restarts}: {words}"
        return end(job, seen, control.GAVE_UP, words, first_worker=first, exit_code=code)
    if job.crashes >= CRASHES_WITHOUT_A_STEP:
        words = f"{job.crashes} crashes in a row without a new step: {words}"
        return end(job, seen, control.SICK_SLICE, words, first_worker=first, exit_code=code)
    pause = wanted.bounds.poll_seconds * 2 ** min(job.restarts - 1, 4)
    return again(job, seen, f"restart {job.restarts} of {wanted.max_restarts}: {words}", pause)


def _first(failed: dict[int, WorkerReport], asked: bool) -> int | None:
    """Returns the worker that failed first.

    A worker without an exit code has no time of its end either, and counts only if no other failed. One that saved at the
    keeper's request did not fail.
    """

    def rank(index: int) -> tuple[int, float, int]:
        kind = failed[index].kind
        order = 2 if kind == failures.PREEMPTED and asked else 1 if kind == failures.LOST else 0
        return order, failed[index].ended_at, index

    return min(failed, key=rank, default=None)


def _code(report: WorkerReport) -> int | None:
    return 70 if report.kind == failures.MEMORY else report.exit_code


def again(job: JobState, seen: Seen, message: str, pause: float) -> JobState:
    """Returns the job before another attempt, which starts after `pause` seconds at the earliest."""
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


def end(
    job: JobState,
    seen: Seen,
    outcome: str,
    message: str,
    *,
    first_worker: int | None = None,
    exit_code: int | None = None,
) -> JobState:
    """Returns the job ended, with an outcome of `control`."""
    return dataclasses.replace(
        job,
        state="ended",
        outcome=outcome,
        message=message,
        first_worker=first_worker,
        exit_code=exit_code,
        since=seen.now,
    )
