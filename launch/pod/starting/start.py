"""`up`: from a command line to a supervised run.

The order is checks, cost, lock, and then the supervisor, here or on a controller. Nothing is requested before the user agrees.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pod import checkout
from pod.checkout import ROOT
from pod.errors import INTERRUPTED, Refused
from pod.options import Options, pairs
from pod.plane.control_plane import ControlPlane
from pod.plane.delivery import Material
from pod.plane.lock import Lost, RunLock
from pod.record import Place, Record
from pod.run import Run, make_run
from pod.services.credentials import patient
from pod.services.http import ApiError
from pod.services.service import ON_DEMAND, SPOT
from pod.slices import controller, cost
from pod.slices.accelerators import find_accelerator
from pod.slices.supervisor import Supervisor
from pod.starting import checks, configuration
from pod.starting.connection import connect, connect_compute, make_clock, owner_name
from pod.starting.rehearsal import STARTUP_SCRIPT

PLACE_OBJECT = "run.json"


class Interrupted(Exception):
    """The supervisor was asked to end."""


def up(options: Options, record: Record, environment: Mapping[str, str], arguments: Sequence[str], folder: Path) -> int:
    """Starts the run, or joins it if it is running. The arguments are stored for `resume`."""
    checks.check_place(options)
    run = make_run(options, ROOT)
    record.lock()
    configured = _read_configuration(options, record)
    options.type = options.type or configured.accelerator_type
    options.provisioning = options.provisioning or (SPOT if configured.spot else ON_DEMAND)
    accelerator = find_accelerator(options.type)
    if configured.batch_size:
        configuration.check_batch(configured.batch_size, accelerator.devices, options.type)
    clock = make_clock(options)
    service, plane, policies = connect(options, environment, run.control, accelerator.machines)
    checks.check_type(service, options)
    checks.check_bucket(plane.bucket, options, record.log)
    checks.check_account(policies, options, run.control, record.log)
    record.save_command(arguments, folder)
    code = checkout.pack(ROOT)
    material = Material(
        code=code,
        code_name=checkout.archive_name(code),
        environment=pairs(options.environment),
        secrets=pairs(options.secrets),
        startup_script=STARTUP_SCRIPT.read_text(encoding="utf-8"),
    )
    owner = owner_name(record)
    lock = RunLock(plane.bucket, plane.name(), owner, options.limits.lock_seconds, clock)
    supervisor = Supervisor(run, options, accelerator, material, service, plane, lock, record, owner, clock)
    place = _place_of(options, run, configured.batch_size, supervisor.version)
    record.save_place(place)
    resource = patient(lambda: service.queued_resource(options.name, supervisor.version), options.limits.call_seconds)
    if resource is None:
        _check_memory(options, record)
        record.log(cost.describe(accelerator, options, configured.duration, options.deadline_hours))
        if not options.yes and not options.dry_run:
            cost.confirm("Request it?")
    if options.controller:
        plane.write_json(PLACE_OBJECT, dataclasses.asdict(place))
        machines = connect_compute(options, environment)
        status_of_start = controller.start(options, run, material, plane, lock, machines, record.log, clock)
        if not options.dry_run:
            return status_of_start
        # The controller sends the rest.
    return _supervise(supervisor, lock, plane, place, options, record)


def _read_configuration(options: Options, record: Record) -> configuration.Configuration:
    """Loads the configuration; a dry run with --type works without it."""
    try:
        return configuration.read(ROOT, options.config, options.overrides)
    except configuration.CannotLoad as error:
        if not options.dry_run or not options.type:
            raise
        record.log(f"the configuration is not checked: {error}")
        return configuration.Configuration(accelerator_type="", spot=False, batch_size=0, duration="not known here")


def _supervise(
    supervisor: Supervisor, lock: RunLock, plane: ControlPlane, place: Place, options: Options, record: Record
) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        try:
            lock.take(options.force)
        except ApiError as error:
            raise Refused(f"cannot write to {plane.url}: {error}") from None
        plane.write_json(PLACE_OBJECT, dataclasses.asdict(place))
        supervisor.join()
        exit_code = supervisor.supervise()
        supervisor.leave()
        return exit_code
    except Interrupted:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C does not wait for a failing bucket
        with contextlib.suppress(BrokenPipeError):  # Ctrl-C also ends `tee` behind this one
            record.log(
                "this supervisor ends; the job and the slice continue (and are billed). Come back: "
                f"launch/tpu_pod.sh resume --name {options.name}; end: launch/tpu_pod.sh down --name {options.name}"
            )
        supervisor.leave()
        return INTERRUPTED
    except Lost as error:
        record.log(
            f"{error}; leaving the slice and the job to it. What may be there of {options.name} ends with: "
            f"launch/tpu_pod.sh down --name {options.name}"
        )
        return 1
    except BaseException:
        lock.release()
        raise


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted


def _place_of(options: Options, run: Run, batch_size: int, version: str) -> Place:
    return Place(
        project=options.project,
        zone=options.zone,
        control=run.control,
        workdir=run.workdir,
        type=options.type,
        batch_size=batch_size,
        version=version,
        internal_ips=options.internal_ips,
    )


def _check_memory(options: Options, record: Record) -> None:
    if options.dry_run or not options.plan:
        return
    planned, words = configuration.plan(ROOT, options.config, options.type, options.data, options.overrides)
    if not planned:
        record.log(f"no memory plan: {words}")
        return
    print(words, end="", file=sys.stderr, flush=True)
    hours = configuration.planned_hours(words)
    if hours > options.deadline_hours:
        record.log(
            f"the run is planned to take {hours:g} hours and will be stopped with a checkpoint after "
            f"{options.deadline_hours:g}, the wait for the slice included: --deadline {2 * hours:.0f} leaves it room"
        )
