"""`status` and `logs`: the state of a run by the service, the bucket and the machines, as text.

They read everything from the bucket and need no record on this machine. They write only the request for more workers' logs.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from pod.clock import Clock
from pod.errors import Refused
from pod.plane import history, logs, progress
from pod.plane.control import Control, JobState, WorkerReport
from pod.plane.control_plane import ControlPlane
from pod.record import Place
from pod.services.bucket import Bucket, split_url
from pod.services.credentials import Credentials
from pod.services.service import Node, QueuedResource, Service

CONTROLLER_EVENTS = "controller-events"
_LOG_LINES = 100
_STATUS_LINES = 200


def describe(
    name: str, place: Place, service: Service, plane: ControlPlane, credentials: Credentials, clock: Clock
) -> list[str]:
    """Returns the lines of `status`."""
    resource = service.queued_resource(name, place.version)
    node = None
    if resource is not None and resource.state == "ACTIVE":
        node = service.node(resource.node or name, place.version)
    control, job = plane.read_control(), plane.read_job()
    wanted = None if control is None else control.value
    state = None if job is None or wanted is None or job.value.incarnation != wanted.incarnation else job.value
    slices = history.read(plane)
    lines = [f"slice       {_slice_words(resource, node)}, {place.type or 'type unknown'} in {place.zone}"]
    lines.append(f"job         {_job_words(wanted, state)}")
    if state is not None and state.message:
        lines.append(f"            {state.message}")
    reports = {} if wanted is None or resource is None else plane.workers(wanted.incarnation)
    if reports:
        lines.append(f"workers     {_worker_words(wanted, reports, clock.now())}")
    supervisor = None if wanted is None else wanted.supervisor
    if supervisor is not None:
        lines.append(
            f"supervisor  {supervisor.owner.split(':')[0]}, seen {max(clock.now() - supervisor.seen, 0):.0f} s ago"
        )
    elif wanted is not None:
        lines.append("supervisor  none; the job does not need one")
    if wanted is not None and wanted.deadline:
        lines.append(f"deadline    {time.strftime('%Y-%m-%d %H:%M', time.localtime(wanted.deadline))}")
    restarts, preemptions = (0, 0) if job is None else (job.value.restarts, job.value.preemptions)
    lines.append(
        f"restarts    {restarts} after errors, {preemptions} after preemptions, {max(len(slices) - 1, 0)} new slices"
    )
    log = ""
    if wanted is not None and state is not None and 0 in reports:
        log = logs.tail(plane, wanted.incarnation, state.attempt, 0, reports[0].log_pieces, _STATUS_LINES)
    events = progress.read_events(_metrics(place.workdir, credentials))
    return [*lines, *progress.describe(events, log, place.batch_size, slices, clock.now())]


def show_logs(plane: ControlPlane, worker: int | None, clock: Clock, poll_seconds: float) -> list[str]:
    """Returns the end of the workers' logs.

    Args:
      plane: the control plane of the run.
      worker: the worker; None for all.
      clock: the clock for the wait until an agent has sent a requested log.
      poll_seconds: the interval at which agents read requests.

    Raises:
      Refused: there are no logs.
    """
    stored = plane.read_control()
    if stored is None:
        raise Refused("nothing was started here yet, so there are no logs")
    control = stored.value
    reports = plane.workers(control.incarnation)
    if not reports:
        raise Refused("no worker has answered yet; see: launch/tpu_pod.sh status")
    if worker is not None and worker not in reports:
        raise Refused(f"--worker={worker}: answers came from {_numbers(sorted(reports))}")
    chosen = sorted(reports) if worker is None else [worker]
    lines = [] if worker is not None else _controller_lines(plane)
    missing = [index for index in chosen if not reports[index].log_pieces and reports[index].state == "running"]
    if missing:
        plane.update_control(
            lambda old: None if old is None else dataclasses.replace(old, logs=tuple(sorted({*old.logs, *missing})))
        )
        end = clock.monotonic() + 3 * poll_seconds
        while clock.monotonic() < end and any(not reports[index].log_pieces for index in missing):
            clock.sleep(poll_seconds / 4)
            reports = plane.workers(control.incarnation)
    for index in chosen:
        report = reports[index]
        lines.append(f"== worker {index} == {report.state}{f', attempt {report.attempt}' if report.attempt else ''}")
        if report.message:
            lines.append(report.message)
        if report.log_pieces:
            lines.append(logs.tail(plane, control.incarnation, report.attempt, index, report.log_pieces, _LOG_LINES))
    return lines


def _controller_lines(plane: ControlPlane) -> list[str]:
    """Returns the messages of a run's controller, if it has one."""
    found = plane.bucket.read(plane.name(CONTROLLER_EVENTS))
    if found is None:
        return []
    return ["== controller ==", *found[0].decode("utf-8", "replace").splitlines()[-_LOG_LINES:]]


def _slice_words(resource: QueuedResource | None, node: Node | None) -> str:
    if resource is None:
        return "not there"
    more = f" ({resource.problem.message})" if resource.problem else ""
    if resource.state == "ACTIVE":
        return "ACTIVE, without its machines" if node is None else node.state
    return f"{resource.state}{more}"


def _job_words(control: Control | None, job: JobState | None) -> str:
    if control is None:
        return "none"
    if job is None:
        return "not started on this slice yet"
    outcome = f": {job.outcome}" if job.outcome else ""
    asked = ", asked to stop" if control.want == "stop" and job.state != "ended" else ""
    return f"attempt {job.attempt}, {job.state}{outcome}{asked}" if job.attempt else f"{job.state}{outcome}{asked}"


def _worker_words(control: Control | None, reports: dict[int, WorkerReport], now: float) -> str:
    states: dict[str, int] = {}
    for report in reports.values():
        states[report.state] = states.get(report.state, 0) + 1
    words = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    oldest = max(now - report.heartbeat for report in reports.values())
    total = len(reports) if control is None else control.workers
    silent = total - len(reports)
    return f"{words}{f', {silent} not heard of' if silent > 0 else ''}; the oldest sign of life is {max(oldest, 0):.0f} s old"


def _numbers(workers: list[int]) -> str:
    return "worker " + ", ".join(map(str, workers[:8])) + (", …" if len(workers) > 8 else "")


def _metrics(workdir: str, credentials: Credentials) -> str:
    """Returns the run's metrics; "" if there are none yet or this machine cannot see them."""
    if workdir.startswith("gs://"):
        bucket, folder = split_url(workdir)
        found = Bucket(bucket, credentials).read(f"{folder}/metrics.jsonl")
        return "" if found is None else found[0].decode("utf-8", "replace")
    path = Path(workdir) / "metrics.jsonl"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
