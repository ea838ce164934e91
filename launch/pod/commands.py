"""The subcommands of tpu_pod.sh, each a short sequence of calls to the other modules.

Errors are `Refused`, with the exit status. The final error of a service becomes one.
"""

from __future__ import annotations

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
    given = parse(arguments, environment, settings, folder, ROOT)
    record = Record(given.name, environment, dry_run=given.dry_run)
    if given.command == "up":
        words = list(arguments[1:] if arguments and arguments[0] == "up" else arguments)
        return up(given, record, environment, words if kept is None else kept, folder)
    if given.command == "resume":
        return resume(given, record, environment, arguments[1:])
    if given.command == "down":
        return down(given, record, environment)
    return _follow(given, record, environment)


def resume(given: Options, record: Record, environment: Mapping[str, str], arguments: Sequence[str]) -> int:
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


def down(given: Options, record: Record, environment: Mapping[str, str]) -> int:
    """Ends the supervisor, deletes the slice, and reports what is left.

    A supervisor on another machine would request another slice. It is named, and --force makes it let go.
    """
    if not given.dry_run:
        _end_supervisor(given, record)
    place = _find_place(given, record, environment, required=False)
    if place is None:
        checks.check_place(given)
        place = Place(given.project, given.zone, control_of(given), workdir_of(given))
    given.project, given.zone = place.project, place.zone
    clock = make_clock(given)
    service, plane, _ = connect(given, environment, place.control or "gs://none/none", 1)
    lock = RunLock(plane.bucket, plane.name(), owner_name(record), given.limits.lock_seconds, clock)
    elsewhere = "so a supervisor on another machine would request the slice again"
    unknown: Refused | None = None
    if not place.control:
        record.log(f"nothing says where the run's folder is, {elsewhere}: name it with --workdir to end that one too")
    else:
        controlled = False
        try:
            controlled = controller.remove(given, plane, connect_compute(given, environment), clock)
        except Refused as error:  # the slice costs more, so delete it before raising this
            unknown = error
        try:
            lock.take(given.force or controlled)
        except ApiError as error:
            record.log(f"cannot take the lock in {place.control}, {elsewhere}: {error}")
    try:
        record.log(f"deleting {given.name} in {given.zone}")
        remove(
            service,
            given.name,
            place.version,
            seconds=given.limits.long_call_seconds,
            pause=given.limits.poll_seconds,
            clock=clock,
        )
        if lock.held:
            _forget(plane, clock)
    finally:
        lock.release()
    if unknown is not None:
        raise unknown
    kept = f" in {place.workdir}" if place.workdir else ""
    where = f"{given.name} in {given.zone}"
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
        return  # the slice is gone, which is what was asked for


def _end_supervisor(given: Options, record: Record) -> None:
    holder = record.supervisor()
    if not record.is_locked():
        return
    record.log(f"ending the supervisor (process {holder})")
    if holder:
        os.kill(holder, signal.SIGTERM)
    if not record.wait_for_lock(given.limits.call_seconds):
        raise Refused(f"the supervisor (process {holder}) does not end")


def _follow(given: Options, record: Record, environment: Mapping[str, str]) -> int:
    """Runs the commands that look at a started run or speak to it."""
    place = _find_place(given, record, environment, required=True)
    assert place is not None
    given.project, given.zone = place.project, place.zone
    if given.command == "ssh":
        worker = max(given.worker, 0)
        command = gcloud.ssh(given.name, worker, given.project, given.zone, place.internal_ips, place.version)
        return _become(command, given)
    clock = make_clock(given)
    service, plane, _ = connect(given, environment, place.control, 1)
    if given.command == "status":
        print(*status.describe(given.name, place, service, plane, find_credentials(environment), clock), sep="\n")
    elif given.command == "logs":
        worker = None if given.worker < 0 else given.worker
        print(*status.show_logs(plane, worker, clock, given.limits.poll_seconds), sep="\n")
    elif given.command == "simulate":
        service.simulate_maintenance(given.name, () if given.worker < 0 else (given.worker,))
        record.log(f"asked; watch the supervisor, or: launch/tpu_pod.sh status --name {given.name}")
    else:
        return _stop(given, record, place, service, plane, clock)
    return FINISHED


def _stop(given: Options, record: Record, place: Place, service: Service, plane: ControlPlane, clock: Clock) -> int:
    """Has the job save a checkpoint and end. The supervisor sees that this was asked for and ends too; the slice stays."""
    stored, node = plane.read_control(), service.node(given.name, place.version)
    if stored is None or node is None or node.state != "READY":
        words = "not there" if node is None else node.state
        raise Refused(f"there is no running slice {given.name} ({words}); nothing to stop")
    seconds = given.limits.stop_seconds
    record.log(f"asking for a checkpoint, then ending the job (at most {seconds:g} seconds)")
    wanted = plane.update_control(lambda old: None if old is None else dataclasses.replace(old, want="stop"))
    end = clock.monotonic() + seconds + given.limits.grace_seconds + given.limits.heartbeat_seconds
    while clock.monotonic() < end:
        job = plane.read_job()
        if job is not None and wanted is not None and job.value.job == wanted.job.id and job.value.state == "ended":
            outcome = job.value.outcome
            price = find_accelerator(place.type).dollars(1)
            if outcome == "stopped":
                record.log(
                    f"ended. The slice is still billed, {price:,.2f} dollars an hour: launch/tpu_pod.sh resume, or "
                    f"launch/tpu_pod.sh down, with --name {given.name}"
                )
            else:
                record.log(f"the job had ended already: {outcome}")
            return FINISHED
        clock.sleep(min(given.limits.poll_seconds, 5))
    raise Refused(f"the job has not ended on all workers; see launch/tpu_pod.sh logs --name {given.name}")


def _find_place(given: Options, record: Record, environment: Mapping[str, str], *, required: bool) -> Place | None:
    """Returns where a run is, as this machine remembers it or as the bucket says.

    A place on the command line comes first. The place in launch/pod.env does not count, as it says where the next run goes.
    A slice that is looked for in the wrong zone would be billed on.
    """
    place = record.place()
    control = control_of(given)
    if place is not None and given.workdir and given.workdir != place.workdir:
        place = None  # what this machine remembers is another run of that name
    if place is None and control and not given.dry_run:
        bucket, folder = split_url(control)
        real = Bucket(bucket, find_credentials(environment), patience=given.limits.call_seconds)
        stored = ControlPlane(real, folder).read_json(PLACE_OBJECT)
        if stored is not None:
            known = {item.name for item in dataclasses.fields(Place)}
            place = Place(**{key: value for key, value in stored.value.items() if key in known})
    if place is None and required:
        raise Refused(
            f"nothing is known of a run named {given.name}, neither on this machine nor in "
            f"{control or 'a bucket (name its folder with --workdir)'}; see --name"
        )
    if place is None:
        return None
    changes = {name: getattr(given, name) for name in ("project", "zone") if name in given.said}
    return dataclasses.replace(place, **changes)


def _become(command: Sequence[str], given: Options) -> int:
    if given.dry_run:
        print(gcloud.line(command))
        return FINISHED
    try:
        os.execvp(command[0], list(command))
    except OSError:
        raise Refused("gcloud is not installed, and ssh to a worker goes through it") from None
