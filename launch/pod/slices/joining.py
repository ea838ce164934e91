"""Decides how `up` begins: it joins a running job, continues an interrupted run, or starts a new one.

The decision is a pure function of what exists. A running job is joined as it is or not at all; another one is never started
beside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from pod.errors import Refused
from pod.options import Options
from pod.plane.control import SICK_SLICE, STOPPED, Bounds, Control, Job, JobState, Supervisor
from pod.plane.delivery import Material
from pod.run import Run


@dataclass(frozen=True)
class Existing:
    """The existing parts of a run.

    Attributes:
      control: the last `control.json`; None before the first start.
      job: the last `job.json`; None before the first keeper.
      has_slice: whether the run has a queued resource.
      incarnation: the incarnation in the queued resource's metadata; "" if it has none.
    """

    control: Control | None
    job: JobState | None
    has_slice: bool
    incarnation: str = ""


@dataclass(frozen=True)
class Start:
    """How to begin.

    Attributes:
      control: the new `control.json`.
      joins: whether the job on the slice is this one and is left as it is.
      progress: the highest step seen of this job; -1 for none.
    """

    control: Control
    joins: bool
    progress: int = -1


def begin(
    existing: Existing,
    run: Run,
    options: Options,
    material: Material,
    *,
    queued_resource: str,
    workers: int,
    supervisor: Supervisor,
    make_id: Callable[[], str],
) -> Start:
    """Returns how to begin.

    Args:
      existing: the existing parts.
      run: the run that the user wants.
      options: the user's options.
      material: the material for the slice.
      queued_resource: the resource name of the run's slice.
      workers: the number of its machines.
      supervisor: the supervisor and the time.
      make_id: returns a new random identifier.

    Raises:
      Refused: another job runs on the slice.
    """
    old, now = existing.control, supervisor.seen
    job = existing.job if existing.job is not None and old is not None and existing.job.job == old.job.id else None
    ended = job is not None and job.state == "ended" and job.outcome != SICK_SLICE
    same = old is not None and old.job.key == run.key
    runs = existing.has_slice and job is not None and not ended and existing.incarnation in ("", job.incarnation)
    if runs and not same:
        words = f"another job runs on {run.name}, started with other arguments"
        raise Refused(f"{words}: end it first with launch/tpu_pod.sh stop --name {run.name}")
    stopped = old is not None and (old.want == "stop" or (job is not None and job.outcome == STOPPED))
    in_time = old is not None and old.deadline > now
    goes_on = same and in_time and not ended and not stopped
    joins = goes_on and existing.has_slice
    job_id = old.job.id if old is not None and goes_on else make_id()
    control = Control(
        run=run.name,
        incarnation=old.incarnation if old is not None else (existing.incarnation or make_id()),
        want="run",
        job=old.job if old is not None and joins else _make_job(job_id, run, material, old),
        queued_resource=queued_resource,
        workers=workers,
        # A stopped run continues with the time it has left; any other start has a new deadline.
        deadline=old.deadline
        if old is not None and same and in_time and (goes_on or stopped)
        else now + options.deadline_hours * 3600,
        max_restarts=options.max_restarts,
        keep=options.keep,
        idle_seconds=options.limits.idle_seconds,
        bounds=Bounds(**{item.name: getattr(options.limits, item.name) for item in dataclasses.fields(Bounds)}),
        supervisor=supervisor,
    )
    return Start(control, joins, job.progress if job is not None and same else -1)


def _make_job(job_id: str, run: Run, material: Material, old: Control | None) -> Job:
    return Job(
        id=job_id,
        key=run.key,
        arguments=run.arguments,
        code=material.code_name,
        environment=old.job.environment if old is not None else "",  # until `delivery.upload` replaces it
        secrets=dict(material.secrets),
        mount=run.mount,
    )
