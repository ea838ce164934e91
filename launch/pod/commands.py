"""The subcommands of tpu_pod.sh, each a short sequence of calls to the other modules.

Errors are `Refused`, with the exit status. The final error of a service becomes one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from pod import status
from pod.checkout import ROOT
from pod.clock import Clock
from pod.errors import FINISHED, Refused
from pod.options import Options
from pod.plane import history
from pod.plane.control_plane import ControlPlane
from pod.plane.lock import RunLock
from pod.record import Place, Record
from pod.run import control_of, workdir_of
from pod.services import gcloud
from pod.services.bucket import Bucket, split_url
from pod.services.http import ApiError
from pod.services.service import Service
from pod.slices import controller
from pod.slices.accelerators import find_accelerator
from pod.slices.removal import remove
from pod.starting import checks
from pod.starting.arguments import parse
from pod.starting.connection import connect, connect_compute, find_credentials, make_clock, owner_name
from pod.starting.start import PLACE_OBJECT, up


def main(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, kept: Sequence[str] | None = None
) -> int:
    """Runs one command and returns the exit status.

    Args:
      arguments: the arguments after `tpu_pod.sh`.
      environment: the environment of the process.
      folder: the user's folder, for relative paths.
      kept: the `up` command that `resume` will repeat; by default this one.

    Raises:
      Refused: the command cannot be carried out.
      HelpAsked: the user wants to see the usage.
    """
    settings = Path(environment.get("POD_SETTINGS") or ROOT / "launch" / "pod.env")
    options = parse(arguments, environment, settings, folder, ROOT)
    record = Record(options.name, environment, dry_run=options.dry_run)
    if options.command == "up":
        words = list(arguments[1:] if arguments and arguments[0] == "up" else arguments)
        return up(options, record, environment, words if kept is None else kept, folder)
    if options.command == "resume":
        return resume(options, record, environment, arguments[1:])
    if options.command == "down":
        return down(options, record, environment)
    return _follow(options, record, environment)


def resume(options: Options, record: Record, environment: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Runs the last `up` of this name again, with the few options that may change."""
    changes = []
    words = iter(arguments)
    for word in words:
        if word in ("--name", "--config"):
            next(words, None)
        elif word.startswith(("--name=", "--config=")):
            continue
        elif word in ("--yes", "--force", "--keep", "--no-plan", "--controller", "--dry-run"):
            changes.append(word)
        else:
            allowed = "--name, --yes, --force, --keep, --no-plan, --controller and --dry-run"
            raise Refused(f"resume is the last `up` again: it takes {allowed}, not {word}")
    command, folder = record.command()
    if not folder.is_dir():
        raise Refused(f"the folder {folder} is gone; give the whole command again")
    return main(["up", *changes, *command], environment, folder, kept=command)


def down(options: Options, record: Record, environment: Mapping[str, str]) -> int:
    """Ends the supervisor, deletes the slice, and reports what is left.

    A supervisor on another machine would request another slice. It is named, and --force makes it let go.
    """
    if not options.dry_run:
        _end_supervisor(options, record)
    place = _find_place(options, record, environment, required=False)
    if place is None:
        checks.check_place(options)
        place = Place(options.project, options.zone, control_of(options), workdir_of(options))
    options.project, options.zone = place.project, place.zone
    clock = make_clock(options)
    service, plane, _ = connect(options, environment, place.control or "gs://none/none", 1)
    lock = RunLock(plane.bucket, plane.name(), owner_name(record), options.limits.lock_seconds, clock)
    elsewhere = "so a supervisor on another machine would request the slice again"
    unknown: Refused | None = None
    if not place.control:
        record.log(f"nothing says where the run's folder is, {elsewhere}: name it with --workdir to end that one too")
    else:
        controlled = False
        try:
            controlled = controller.remove(options, plane, connect_compute(options, environment), clock)
        except Refused as error:  # the slice costs more, so delete it before raising this
            unknown = error
        try:
            lock.take(options.force or controlled)
        except ApiError as error:
            record.log(f"cannot take the lock in {place.control}, {elsewhere}: {error}")
    try:
        record.log(f"deleting {options.name} in {options.zone}")
        remove(
            service,
            options.name,
            place.version,
            seconds=options.limits.long_call_seconds,
            pause=options.limits.poll_seconds,
            clock=clock,
        )
        if lock.held:
            _forget(plane, clock)
    finally:
        lock.release()
    if unknown is not None:
        raise unknown
    kept = f" in {place.workdir}" if place.workdir else ""
    where = f"{options.name} in {options.zone}"
    record.log(f"nothing of {where} is running or billed any more; still billed: what is stored{kept}")
    return FINISHED


def _forget(plane: ControlPlane, clock: Clock) -> None:
    """Notes that the slice is gone, and deletes the environment that only its machines could use."""
    try:
        history.note_gone(plane, clock.now(), "down")
        stored = plane.read_control()
        if stored is not None and stored.value.job.environment:
            plane.bucket.delete(plane.name(stored.value.job.environment))
    except ApiError:
        return  # the slice is gone; this only tidies up


def _end_supervisor(options: Options, record: Record) -> None:
    holder = record.supervisor()
    if not record.is_locked():
        return
    if not record.supervisor_is_here():
        if options.force:
            return  # it lets go once its lock in the bucket is taken
        words = f"the supervisor (process {holder}) is on another machine, or in another container, with the same home"
        raise Refused(f"{words}: end it there, or with --force")
    record.log(f"ending the supervisor (process {holder})")
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.kill(holder, signal.SIGTERM)
    if not record.wait_for_lock(options.limits.call_seconds):
        raise Refused(f"the supervisor (process {holder}) does not end")


def _follow(options: Options, record: Record, environment: Mapping[str, str]) -> int:
    """Runs the commands that look at a started run or speak to it."""
    place = _find_place(options, record, environment, required=True)
    assert place is not None
    options.project, options.zone = place.project, place.zone
    if options.command == "ssh":
        worker = max(options.worker, 0)
        command = gcloud.ssh(options.name, worker, options.project, options.zone, place.internal_ips, place.version)
        return _become(command, options)
    clock = make_clock(options)
    service, plane, _ = connect(options, environment, place.control, 1)
    if options.command == "status":
        print(*status.describe(options.name, place, service, plane, find_credentials(environment), clock), sep="\n")
    elif options.command == "logs":
        worker = None if options.worker < 0 else options.worker
        print(*status.show_logs(plane, worker, clock, options.limits.poll_seconds), sep="\n")
    elif options.command == "simulate":
        service.simulate_maintenance(options.name, () if options.worker < 0 else (options.worker,))
        record.log(f"requested; watch the supervisor, or: launch/tpu_pod.sh status --name {options.name}")
    else:
        return _stop(options, record, place, service, plane, clock)
    return FINISHED


def _stop(options: Options, record: Record, place: Place, service: Service, plane: ControlPlane, clock: Clock) -> int:
    """Has the job save a checkpoint and end. The supervisor sees the request and ends too; the slice stays."""
    stored, node = plane.read_control(), service.node(options.name, place.version)
    if stored is None or node is None or node.state != "READY":
        words = "not there" if node is None else node.state
        raise Refused(f"there is no running slice {options.name} ({words}); nothing to stop")
    seconds = options.limits.stop_seconds
    record.log(f"requesting a checkpoint, then ending the job (at most {seconds:g} seconds)")
    wanted = plane.update_control(lambda old: None if old is None else dataclasses.replace(old, want="stop"))
    end = clock.monotonic() + seconds + options.limits.grace_seconds + options.limits.heartbeat_seconds
    while clock.monotonic() < end:
        job = plane.read_job()
        if job is not None and wanted is not None and job.value.job == wanted.job.id and job.value.state == "ended":
            outcome = job.value.outcome
            price = find_accelerator(place.type).dollars(1)
            if outcome == "stopped":
                record.log(
                    f"ended. The slice is still billed, {price:,.2f} dollars an hour: launch/tpu_pod.sh resume, or "
                    f"launch/tpu_pod.sh down, with --name {options.name}"
                )
            else:
                record.log(f"the job had ended already: {outcome}")
            return FINISHED
        clock.sleep(min(options.limits.poll_seconds, 5))
    raise Refused(f"the job has not ended on all workers; see launch/tpu_pod.sh logs --name {options.name}")


def _find_place(options: Options, record: Record, environment: Mapping[str, str], *, required: bool) -> Place | None:
    """Returns where a run is, as this machine remembers it or as the bucket says.

    A place on the command line comes first. The place in launch/pod.env does not count, as it says where the next run goes.
    A slice that is looked for in the wrong zone would be billed on.
    """
    place = record.place()
    control = control_of(options)
    if place is not None and options.workdir and options.workdir != place.workdir:
        place = None  # what this machine remembers is another run of that name
    if place is None and control and not options.dry_run:
        bucket, folder = split_url(control)
        real = Bucket(bucket, find_credentials(environment), patience=options.limits.call_seconds)
        stored = ControlPlane(real, folder).read_json(PLACE_OBJECT)
        if stored is not None:
            known = {item.name for item in dataclasses.fields(Place)}
            place = Place(**{key: value for key, value in stored.value.items() if key in known})
    if place is None and required:
        raise Refused(
            f"nothing is known of a run named {options.name}, neither on this machine nor in "
            f"{control or 'a bucket (name its folder with --workdir)'}; see --name"
        )
    if place is None:
        return None
    changes = {name: getattr(options, name) for name in ("project", "zone") if name in options.set_by_user}
    return dataclasses.replace(place, **changes)


def _become(command: Sequence[str], options: Options) -> int:
    if options.dry_run:
        print(gcloud.line(command))
        return FINISHED
    try:
        os.execvp(command[0], list(command))
    except OSError:
        raise Refused("gcloud is not installed, and ssh to a worker goes through it") from None
