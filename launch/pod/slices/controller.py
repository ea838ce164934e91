"""Runs the supervisor on a small machine of its own, so that the user's may be switched off.

The machine NAME-controller is created in the slice's zone with the slices' own startup script. It finds the user's request in
the control plane (`controller.json`), supervises like any supervisor, and deletes itself at the end. If that fails, the
service deletes it an hour after the deadline. Its messages are in the object `controller-events`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pod.clock import Clock
from pod.errors import FAILED, FINISHED, Refused
from pod.options import Limits, Options, pairs
from pod.plane.control_plane import ControlError, ControlPlane
from pod.plane.delivery import Material, upload_code, upload_environment
from pod.plane.lock import Lost, RunLock
from pod.record import Record
from pod.run import Run
from pod.services import gcloud
from pod.services.bucket import Bucket, split_url
from pod.services.compute import Compute, MachineRequest
from pod.services.credentials import Credentials, CredentialsError, patient
from pod.services.endpoints import Endpoints
from pod.services.http import ApiError
from pod.services.service import Service
from pod.slices.accelerators import find_accelerator
from pod.slices.supervisor import Supervisor
from pod.status import CONTROLLER_EVENTS

CREDENTIALS = "POD_CREDENTIALS"  # environment variable: "metadata" on a machine in Google's cloud without gcloud
ROLE, ROLE_NAME = "pod-role", "controller"
_TASK = "controller.json"
_AFTER_DEADLINE_SECONDS = 3600
_EVENT_LINES = 200
_DELETE_SECONDS = 300.0


def machine_name(name: str) -> str:
    """Returns the name of a run's controller."""
    return f"{name}-controller"


def start(
    options: Options,
    run: Run,
    material: Material,
    plane: ControlPlane,
    lock: RunLock,
    compute: Any,
    log: Callable[[str], None],
    clock: Clock,
) -> int:
    """Creates the controller and leaves the run to it.

    Args:
      options: the user's options, complete.
      run: the run.
      material: the material for the slice and the controller.
      plane: the control plane.
      lock: the lock of the run, which is released for the controller.
      compute: Compute Engine.
      log: prints to the user.
      clock: the clock for the wait until an earlier controller is gone.

    Raises:
      Refused: another supervisor has the run, or the machine is refused.
    """
    name = machine_name(options.name)
    try:
        lock.take(options.force)
        upload_code(plane, material)
        environment = upload_environment(plane, material)
        of_controller = dataclasses.replace(options, environment=[], controller=False, force=False, yes=True)
        plane.write_json(
            _TASK,
            {
                "options": dataclasses.asdict(of_controller),
                "run": dataclasses.asdict(run),
                "code": material.code_name,
                "environment": environment,
            },
        )
        lock.release()
        _delete(compute, name, clock)  # an earlier controller that failed to delete itself
        compute.create(_machine_request(options, run, material))
    except ApiError as error:
        raise Refused(f"cannot make the machine {name}: {error}") from None
    finally:
        lock.release()
    log(
        f"{name} supervises the run from now on, and deletes itself at its end; this machine may be switched off. "
        f"Watch it with: launch/tpu_pod.sh status --name {options.name}; end it: launch/tpu_pod.sh down --name {options.name}"
    )
    return FINISHED


def remove(options: Options, plane: ControlPlane, compute: Any, clock: Clock) -> bool:
    """Deletes the controller of a run, if it has one, and returns whether it had.

    Raises:
      Refused: the machine still exists.
    """
    name = machine_name(options.name)
    try:
        if plane.read_json(_TASK) is None:
            return False
        _delete(compute, name, clock)
        plane.bucket.delete(plane.name(_TASK))
        return True
    except ApiError as error:
        raise Refused(f"cannot delete the machine {name}, which may still be billed: {error}") from None


def _delete(compute: Any, name: str, clock: Clock) -> None:
    end = clock.monotonic() + _DELETE_SECONDS
    while compute.delete(name):
        if clock.monotonic() > end:
            raise Refused(f"the machine {name} is not gone after {_DELETE_SECONDS:.0f} seconds; try again")
        clock.sleep(2)


def _machine_request(options: Options, run: Run, material: Material) -> MachineRequest:
    metadata = {
        "pod-control": run.control,
        ROLE: ROLE_NAME,
        "pod-code": material.code_name,
        "startup-script": material.startup_script,
    }
    return MachineRequest(
        name=machine_name(options.name),
        project=options.project,
        zone=options.zone,
        network=options.network,
        subnetwork=options.subnetwork,
        internal_ips=options.internal_ips,
        service_account=options.service_account,
        max_run_seconds=int(options.deadline_hours * 3600) + _AFTER_DEADLINE_SECONDS,
        metadata=metadata,
    )


class _Record(Record):
    """A record whose events are also in the bucket."""

    def __init__(self, name: str, root: Path, plane: ControlPlane):
        super().__init__(name, {"POD_RECORDS": str(root / "records"), "HOME": str(root)})
        self._plane = plane

    def log(self, words: str) -> None:
        """Adds a line to the events, here and in the bucket."""
        before = self._last_words
        super().log(words)
        if self._last_words == before:
            return
        try:
            lines = (self.folder / "events").read_text(encoding="utf-8").splitlines()[-_EVENT_LINES:]
            self._plane.bucket.write(
                self._plane.name(CONTROLLER_EVENTS),
                "\n".join([*lines, ""]).encode(),
                content_type="text/plain; charset=utf-8",
            )
        except (ApiError, OSError) as error:
            print(f"the event is not in the bucket: {error}", flush=True)


def main(root: Path, control: str, credentials: Credentials, endpoints: Endpoints, clock: Clock) -> int:
    """Supervises the run of a control plane on the controller, then deletes the controller.

    Args:
      root: the folder of all state on this machine.
      control: gs://… of the control plane.
      credentials: credentials of the machine's service account.
      endpoints: the services' URLs.
      clock: the clock.

    Returns:
      The exit status of the run.
    """
    bucket, folder = split_url(control)
    plane = ControlPlane(Bucket(bucket, credentials, endpoints, patience=Limits().call_seconds, clock=clock), folder)
    stored = plane.read_json(_TASK)
    if stored is None:
        raise ControlError(f"{control}/{_TASK} is not there: this machine has nothing to supervise")
    task = stored.value
    fields: dict[str, Any] = {**task["options"], "limits": Limits(**task["options"]["limits"])}
    parts: dict[str, Any] = {**task["run"], "arguments": tuple(task["run"]["arguments"])}
    options, run = Options(**fields), Run(**parts)
    record = _Record(options.name, root, plane)
    owner = f"{machine_name(options.name)}:{record.folder}"
    lock = RunLock(plane.bucket, plane.name(), owner, options.limits.lock_seconds, clock)
    status = FAILED
    try:
        supervisor = Supervisor(
            run,
            options,
            find_accelerator(options.type),
            _material(root, plane, task, options),
            Service(credentials, options.project, options.zone, endpoints),
            plane,
            lock,
            record,
            owner,
            clock,
        )
        lock.take()
        supervisor.join()
        status = supervisor.supervise()
        supervisor.leave()
        plane.bucket.delete(plane.name(_TASK))
        record.log(f"the run has ended with status {status}")
    except (Refused, Lost) as error:
        record.log(f"this supervisor ends: {error}")
        lock.release()
    _delete_itself(options, credentials, endpoints, record, clock)
    return status


def _material(root: Path, plane: ControlPlane, task: dict[str, Any], options: Options) -> Material:
    """Returns the material for the slice; the environment is kept only on this machine from then on."""
    kept = root / "environment.json"
    name = task["environment"]
    if name and not kept.exists():
        found = plane.bucket.read(plane.name(name))
        if found is None:
            raise Refused("the trainer's environment is not in the bucket any more: start the run again")
        partial = root / "environment.partial"
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(found[0])
        partial.replace(kept)
        plane.bucket.delete(plane.name(name))
    code = plane.bucket.read(plane.name(task["code"]))
    if code is None:
        raise Refused(f"{task['code']} is not in the bucket any more: start the run again")
    return Material(
        code=code[0],
        code_name=task["code"],
        environment=json.loads(kept.read_text(encoding="utf-8")) if name else {},
        secrets=pairs(options.secrets),
        startup_script=Path(__file__).resolve().parents[1].joinpath("startup.sh").read_text(encoding="utf-8"),
    )


def _delete_itself(
    options: Options, credentials: Credentials, endpoints: Endpoints, record: Record, clock: Clock
) -> None:
    """Deletes this machine. If its account may not, switches it off, so that only its disk is billed."""
    compute = Compute(credentials, options.project, options.zone, endpoints)
    name = machine_name(options.name)
    try:
        patient(lambda: compute.delete(name), _DELETE_SECONDS, clock)
        return
    except (ApiError, CredentialsError) as error:
        command = gcloud.delete_instance(name, options.project, options.zone)
        record.log(f"this machine cannot delete itself and switches itself off ({error}); delete it: {command}")
    subprocess.run(["shutdown", "--poweroff", "now"], check=False)
