"""The subcommands of tpu_pod.sh, each a short story of calls to the other parts.

Owns their order. Errors are `Refused`, with the exit status; what a service says in the end becomes one.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pod import checkout, checks, configuration, controller, cost, gcloud, history, options, status
from pod.accelerators import find_accelerator
from pod.clock import Clock
from pod.compute import Compute
from pod.control import ControlPlane
from pod.credentials import Credentials, GcloudCredentials, MetadataCredentials, patient
from pod.delivery import Material
from pod.endpoints import find_endpoints
from pod.errors import FINISHED, INTERRUPTED, Refused
from pod.http import ApiError
from pod.lock import Lost, RunLock
from pod.options import Options
from pod.permissions import Policies
from pod.record import Place, Record
from pod.rehearsal import (
    STARTUP_SCRIPT,
    RehearsalClock,
    RehearsedBucket,
    RehearsedCompute,
    RehearsedPolicies,
    RehearsedService,
)
from pod.removal import remove
from pod.run import Run, control_of, make_run, workdir_of
from pod.service import ON_DEMAND, SPOT, Service
from pod.supervisor import Supervisor

ROOT = checkout.ROOT
PLACE_OBJECT = "run.json"


class Interrupted(Exception):
    """The supervisor was asked to end."""


def main(arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> int:
    """Runs one command and returns the exit status.

    Raises:
      Refused: what cannot be done.
      HelpAsked: the user wants to see the usage.
    """
    settings = Path(environment.get("POD_SETTINGS") or ROOT / "launch" / "pod.env")
    given = options.parse(arguments, environment, settings, folder, ROOT)
    record = Record(given.name, environment, dry_run=given.dry_run)
    if given.command == "up":
        words = list(arguments[1:] if arguments and arguments[0] == "up" else arguments)
        return up(given, record, environment, words, folder)
    if given.command == "resume":
        return resume(given, record, environment, arguments[1:])
    if given.command == "down":
        return down(given, record, environment)
    return _follow(given, record, environment)


def up(given: Options, record: Record, environment: Mapping[str, str], arguments: Sequence[str], folder: Path) -> int:
    """Makes the run happen, or joins the one that happens. The arguments are kept for `resume`."""
    checks.check_place(given)
    run = make_run(given, ROOT)
    record.lock()
    said = configuration.read(ROOT, given.config, given.overrides)
    given.type = given.type or said.accelerator_type
    given.provisioning = given.provisioning or (SPOT if said.spot else ON_DEMAND)
    accelerator = find_accelerator(given.type)
    configuration.check_batch(said.batch_size, accelerator.devices, given.type)
    clock = RehearsalClock() if given.dry_run else Clock()
    service, plane, policies = _connect(given, environment, run.control, accelerator.machines)
    checks.check_type(service, given)
    checks.check_bucket(plane.bucket, given, record.say)
    checks.check_account(policies, given, run.control, record.say)
    record.save_command(arguments, folder)
    code = checkout.pack(ROOT)
    material = Material(
        code=code,
        code_name=checkout.archive_name(code),
        environment=dict(entry.partition("=")[::2] for entry in given.environment),
        secrets=dict(entry.partition("=")[::2] for entry in given.secrets),
        startup_script=STARTUP_SCRIPT.read_text(encoding="utf-8"),
    )
    owner = owner_name(record)
    lock = RunLock(plane.bucket, plane.name(), owner, given.limits.lock_seconds, clock)
    supervisor = Supervisor(run, given, accelerator, material, service, plane, lock, record, owner, clock)
    place = _place_of(given, run, said.batch_size, supervisor.version)
    record.save_place(place)
    there = patient(lambda: service.queued_resource(given.name, supervisor.version), given.limits.call_seconds)
    if there is None:
        _check_memory(given, record)
        record.say(cost.describe(accelerator, given, said.duration, given.deadline_hours))
        if not given.yes and not given.dry_run:
            cost.confirm("Ask for it?")
    if given.controller:
        plane.write_json(PLACE_OBJECT, dataclasses.asdict(place))
        machines = _compute(given, environment)
        status_of_start = controller.start(given, run, material, plane, lock, machines, record.say, clock)
        if not given.dry_run:
            return status_of_start
        # What follows is sent by that machine.
    return _supervise(supervisor, lock, plane, place, given, record)


def _supervise(
    supervisor: Supervisor, lock: RunLock, plane: ControlPlane, place: Place, given: Options, record: Record
) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        try:
            lock.take(given.force)
        except ApiError as error:
            raise Refused(f"cannot write to {plane.url}: {error}") from None
        plane.write_json(PLACE_OBJECT, dataclasses.asdict(place))
        supervisor.join()
        exit_code = supervisor.supervise()
        supervisor.leave()
        return exit_code
    except Interrupted:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        record.say(
            "this supervisor ends, the job and the slice go on (and are billed). "
            f"Come back: launch/tpu_pod.sh resume --name {given.name}; end: launch/tpu_pod.sh down --name {given.name}"
        )
        supervisor.leave()
        return INTERRUPTED
    except Lost as error:
        record.say(
            f"{error}; leaving the slice and the job to it. What may be there of {given.name} ends with: "
            f"launch/tpu_pod.sh down --name {given.name}"
        )
        return 1
    except BaseException:
        lock.release()
        raise


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted


def resume(given: Options, record: Record, environment: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Runs the last `up` of this name again, with the few options that may have changed since."""
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
    return main(["up", *changes, *command], environment, folder)


def down(given: Options, record: Record, environment: Mapping[str, str]) -> int:
    """Ends the supervisor, deletes the slice, and says what is left.

    A supervisor on another machine would ask for the slice anew: it is named, and with --force it lets go.
    """
    if not given.dry_run:
        _end_supervisor(given, record)
    place = _find_place(given, record, environment, required=False)
    if place is None:
        checks.check_place(given)
        place = Place(given.project, given.zone, control_of(given), workdir_of(given))
    given.project, given.zone = place.project, place.zone
    clock = RehearsalClock() if given.dry_run else Clock()
    service, plane, _ = _connect(given, environment, place.control or "gs://none/none", 1)
    lock = RunLock(plane.bucket, plane.name(), owner_name(record), given.limits.lock_seconds, clock)
    elsewhere = "so a supervisor on another machine would ask for the slice anew"
    if not place.control:
        record.say(f"nothing says where the run's folder is, {elsewhere}: name it with --workdir to end that one too")
    else:
        controlled = controller.remove(given, plane, _compute(given, environment), clock)
        try:
            lock.take(given.force or controlled)
        except ApiError as error:
            record.say(f"cannot take the lock in {place.control}, {elsewhere}: {error}")
    try:
        record.say(f"deleting {given.name} in {given.zone}")
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
    kept = f" in {place.workdir}" if place.workdir else ""
    record.say(f"nothing of {given.name} is running or billed any more; still billed: what is stored{kept}")
    return FINISHED


def _forget(plane: ControlPlane, clock: Clock) -> None:
    """Ends what is written down of the slice, and takes away what only its machines could have."""
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
    record.say(f"ending the supervisor (process {holder})")
    if holder:
        os.kill(holder, signal.SIGTERM)
    if not record.wait_for_lock(given.limits.call_seconds):
        raise Refused(f"the supervisor (process {holder}) does not end")


def _follow(given: Options, record: Record, environment: Mapping[str, str]) -> int:
    """The commands that look at a run that was started, or speak to it."""
    place = _find_place(given, record, environment, required=True)
    assert place is not None
    given.project, given.zone = place.project, place.zone
    if given.command == "ssh":
        worker = max(given.worker, 0)
        command = gcloud.ssh(given.name, worker, given.project, given.zone, place.internal_ips, place.version)
        return _become(command, given)
    clock = RehearsalClock() if given.dry_run else Clock()
    service, plane, _ = _connect(given, environment, place.control, 1)
    if given.command == "status":
        print(*status.describe(given.name, place, service, plane, _credentials(environment), clock), sep="\n")
    elif given.command == "logs":
        worker = None if given.worker < 0 else given.worker
        print(*status.show_logs(plane, worker, clock, given.limits.poll_seconds), sep="\n")
    elif given.command == "simulate":
        service.simulate_maintenance(given.name, () if given.worker < 0 else (given.worker,))
        record.say(f"asked; watch the supervisor, or: launch/tpu_pod.sh status --name {given.name}")
    else:
        return _stop(given, record, place, service, plane, clock)
    return FINISHED


def _stop(given: Options, record: Record, place: Place, service: Service, plane: ControlPlane, clock: Clock) -> int:
    """Has the job save and end; a supervisor sees that it was asked for and ends too. The slice stays."""
    stored, node = plane.read_control(), service.node(given.name, place.version)
    if stored is None or node is None or node.state != "READY":
        words = "not there" if node is None else node.state
        raise Refused(f"there is no running slice {given.name} ({words}); nothing to stop")
    seconds = given.limits.stop_seconds
    record.say(f"asking for a checkpoint, then ending the job (at most {seconds:g} seconds)")
    wanted = plane.update_control(lambda old: None if old is None else dataclasses.replace(old, want="stop"))
    end = clock.monotonic() + seconds + given.limits.grace_seconds + given.limits.heartbeat_seconds
    while clock.monotonic() < end:
        job = plane.read_job()
        if job is not None and wanted is not None and job.value.job == wanted.job.id and job.value.state == "ended":
            outcome = job.value.outcome
            price = find_accelerator(place.type).dollars(1)
            if outcome == "stopped":
                record.say(
                    f"ended. The slice is still billed, {price:,.2f} dollars an hour: launch/tpu_pod.sh resume, or "
                    f"launch/tpu_pod.sh down, with --name {given.name}"
                )
            else:
                record.say(f"the job had ended already: {outcome}")
            return FINISHED
        clock.sleep(min(given.limits.poll_seconds, 5))
    raise Refused(f"the job has not ended on all workers; see launch/tpu_pod.sh logs --name {given.name}")


def _connect(
    given: Options, environment: Mapping[str, str], control: str, machines: int
) -> tuple[Any, ControlPlane, Any]:
    """Returns the service, the control plane and the policies: the real ones, or those of a dry run."""
    credentials = _credentials(environment)
    plane = ControlPlane(control, credentials, patience=given.limits.call_seconds)
    if not given.dry_run:
        service = Service(credentials, given.project, given.zone)
        return service, plane, Policies(credentials, find_endpoints())
    print(gcloud.access_token())
    bucket = RehearsedBucket(plane.bucket.name, given.zone.rpartition("-")[0], print)
    plane.bucket = bucket  # type: ignore[assignment]
    service = RehearsedService(given.project, given.zone, machines, bucket, print)
    return service, plane, RehearsedPolicies(given.service_account, print)


def _compute(given: Options, environment: Mapping[str, str]) -> Any:
    if given.dry_run:
        return RehearsedCompute(given.project, given.zone, print)
    return Compute(_credentials(environment), given.project, given.zone, find_endpoints())


def _credentials(environment: Mapping[str, str]) -> Credentials:
    if environment.get(controller.CREDENTIALS) == "metadata":
        return MetadataCredentials(find_endpoints(environment))
    return GcloudCredentials(environment=environment)


def owner_name(record: Record) -> str:
    """Returns the name of this supervisor: who, where, and the record on that machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}:{record.folder}".replace(" ", "_")


def _place_of(given: Options, run: Run, batch_size: int, version: str) -> Place:
    return Place(
        project=given.project,
        zone=given.zone,
        control=run.control,
        workdir=run.workdir,
        type=given.type,
        batch_size=batch_size,
        version=version,
        internal_ips=given.internal_ips,
    )


def _find_place(given: Options, record: Record, environment: Mapping[str, str], *, required: bool) -> Place | None:
    """Returns where a run is: as this machine remembers it, or as the bucket says; a place on the command line comes first."""
    place = record.place()
    control = control_of(given)
    if place is None and control and not given.dry_run:
        stored = ControlPlane(control, _credentials(environment), patience=given.limits.call_seconds).read_json(
            PLACE_OBJECT
        )
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
    return dataclasses.replace(place, project=given.project or place.project, zone=given.zone or place.zone)


def _check_memory(given: Options, record: Record) -> None:
    if given.dry_run or not given.plan:
        return
    there, words = configuration.plan(ROOT, given.config, given.type, given.data, given.overrides)
    if there:
        print(words, end="", file=sys.stderr, flush=True)
    else:
        record.say(f"no memory plan: {words}")


def _become(command: Sequence[str], given: Options) -> int:
    if given.dry_run:
        print(gcloud.line(command))
        return FINISHED
    try:
        os.execvp(command[0], list(command))
    except OSError:
        raise Refused("gcloud is not installed, and ssh to a worker goes through it") from None
