"""Builds a run's request for a slice, and checks whether a queued resource is the requested one.

The names of the slice's metadata, which startup.sh and the agents read, are defined here.
"""

from __future__ import annotations

from pod.errors import Refused
from pod.options import Options
from pod.run import Run
from pod.services.credentials import CredentialsError
from pod.services.http import ApiError
from pod.services.service import FLEX_START, QueuedResource, Service, SliceRequest
from pod.slices import slice_decisions
from pod.slices.accelerators import Accelerator
from pod.slices.slice_decisions import Decision

CONTROL, INCARNATION, CODE, STARTUP_SCRIPT = "pod-control", "pod-incarnation", "pod-code", "startup-script"


def make_request(
    run: Run,
    options: Options,
    accelerator: Accelerator,
    *,
    incarnation: str,
    code_name: str,
    startup_script: str,
    seconds_left: float,
) -> SliceRequest:
    """Returns the request for a slice.

    Args:
      run: the run.
      options: the complete options.
      accelerator: the type.
      incarnation: the slice's random identifier.
      code_name: the object with the checkout's files.
      startup_script: the script that each machine runs at its start.
      seconds_left: seconds until the deadline, when the service drops the request, so that none outlives its run.
    """
    left = max(round(seconds_left), 1)
    valid = int(options.valid_until_hours * 3600)
    longest = 0
    if options.provisioning == FLEX_START:
        longest = int(options.max_run_hours * 3600) or left
    return SliceRequest(
        name=run.name,
        project=options.project,
        zone=options.zone,
        accelerator_type=accelerator.type,
        runtime_version=accelerator.runtime_version,
        provisioning=options.provisioning,
        reservation=options.reservation,
        network=options.network,
        subnetwork=options.subnetwork,
        internal_ips=options.internal_ips,
        service_account=options.service_account,
        boot_disk_gb=options.boot_disk_gb,
        valid_until_seconds=min(valid, left) if valid else left,
        max_run_seconds=longest,
        metadata={CONTROL: run.control, INCARNATION: incarnation, CODE: code_name, STARTUP_SCRIPT: startup_script},
    )


def check_owner(resource: QueuedResource, run: Run, accelerator: Accelerator) -> None:
    """Raises Refused if the queued resource is not this run's, or of another type."""
    owner = resource.metadata.get(CONTROL)
    if owner is not None and owner != run.control:
        raise Refused(f"the queued resource {run.name} belongs to the run in {owner}: take another --name")
    if owner is None and resource.metadata:
        raise Refused(f"there is a queued resource {run.name} that this launcher did not request: take another --name")
    if resource.accelerator_type and resource.accelerator_type != accelerator.type:
        words = f"the slice {run.name} is a {resource.accelerator_type}, not a {accelerator.type}"
        raise Refused(f"{words}: launch/tpu_pod.sh down --name {run.name}, or another --name")


def send_request(service: Service, request: SliceRequest) -> Decision | None:
    """Sends a request; returns what follows if it is refused."""
    try:
        problem = service.create(request)
        return None if problem is None else slice_decisions.decide_failed(problem)
    except ApiError as error:
        if error.status == "ALREADY_EXISTS":
            return None
        cause = slice_decisions.cause_of(0, error.status, error.message)
        return slice_decisions.decide_refused(cause, str(error))
    except CredentialsError as error:
        return slice_decisions.decide_refused(slice_decisions.LOGIN, str(error))
