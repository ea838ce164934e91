"""Checks with the services before anything costs money.

Checks change nothing. A failing service is asked again for `call_seconds`. What may go wrong, but need not, is a note.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pod.errors import Refused
from pod.options import Options
from pod.services import gcloud, permissions
from pod.services.bucket import Bucket, split_url
from pod.services.credentials import patient
from pod.services.http import ApiError
from pod.services.permissions import Policies
from pod.services.service import Service

Answer = TypeVar("Answer")
_MULTI_REGIONS = {"us": "us", "eu": "europe", "asia": "asia"}


def check_place(options: Options) -> None:
    """Takes project and zone from gcloud's configuration if nothing else names them.

    Raises:
      Refused: that does not name them either.
    """
    where = "launch/pod.env (see pod.env.template)"
    if not options.project and not options.dry_run:
        options.project = gcloud.configured("project")
    if not options.project:
        raise Refused(f"which Google Cloud project? Give --project, or write PROJECT into {where}")
    if not options.zone and not options.dry_run:
        options.zone = gcloud.configured("compute/zone")
    if not options.zone:
        raise Refused(f"which zone? Give --zone, or write ZONE into {where}")


def check_type(service: Service, options: Options) -> None:
    """Raises Refused unless the zone has the type and the project may use Cloud TPU."""
    try:
        available = _patiently(lambda: service.has_accelerator_type(options.type), options)
    except ApiError as error:
        if error.status == "PERMISSION_DENIED":
            words = f"project {options.project} does not let this account use Cloud TPU"
            raise Refused(
                f"{words} (is the API enabled? gcloud services enable tpu.googleapis.com): {error.message}"
            ) from None
        raise Refused(f"cannot ask for the types of zone {options.zone}: {error}") from None
    if not available:
        command = gcloud.list_accelerator_types(options.project, options.zone)
        raise Refused(f"zone {options.zone} has no {options.type}; see: {command}")


def check_bucket(bucket: Bucket, options: Options, note: Callable[[str], None]) -> None:
    """Raises Refused unless the bucket exists and is near. Taking the run's lock shows whether it is writable."""
    region = options.zone.rpartition("-")[0]
    try:
        location = _patiently(bucket.location, options)
    except ApiError as error:
        name = f"gs://{bucket.name}"
        if error.http_status == 404:
            command = f"gcloud storage buckets create {name} --location={region} --project={options.project}"
            raise Refused(f"there is no bucket {name}; make it: {command}") from None
        if error.http_status in (401, 403):
            raise Refused(f"no permission to look at {name}: {error.message}") from None
        raise Refused(f"cannot ask for {name}: {error}") from None
    if location == region:
        return
    if location in _MULTI_REGIONS and region.startswith(_MULTI_REGIONS[location]):
        return
    if location in _MULTI_REGIONS or "-" in location:
        words = f"gs://{bucket.name} is in {location} and the slice in {region}"
        raise Refused(f"{words}: every image would be slow and billed as traffic; use a bucket in {region}")
    note(f"gs://{bucket.name} is in {location}: check that {region} is part of it")


def check_account(policies: Policies, options: Options, workdir: str, note: Callable[[str], None]) -> None:
    """Checks that the machines' account may use the bucket, and delete its own slice when nobody else can.

    Raises:
      Refused: it may not, by the policies of project and bucket; the message has the command that grants it.
    """
    if not options.check_service_account:
        return
    try:
        account = options.service_account
        if not account:
            account = permissions.default_account(_patiently(lambda: policies.project_number(options.project), options))
        project = _patiently(lambda: policies.of_project(options.project), options)
    except ApiError as error:
        note(f"cannot check what the machines' account may do ({error.message}); see docs/pods.md")
        return
    skip = "CHECK_SERVICE_ACCOUNT=no in launch/pod.env leaves this check out"
    member = f"--member=serviceAccount:{account}"
    if permissions.holds([project], account, permissions.DELETE_ROLES) == permissions.NO:
        command = f"gcloud projects add-iam-policy-binding {options.project} {member} --role=roles/tpu.admin"
        words = f"{account} may not delete its slice when the run is over and no supervisor is there"
        raise Refused(f"{words}: {command} ({skip})")
    if not workdir.startswith("gs://"):
        return
    bucket = split_url(workdir)[0]
    try:
        policy = _patiently(lambda: policies.of_bucket(bucket), options)
    except ApiError as error:
        note(f"cannot check whether {account} may use gs://{bucket} ({error.message}); see docs/pods.md")
        return
    if permissions.holds([project, policy], account, permissions.STORE_ROLES) == permissions.NO:
        role = "--role=roles/storage.objectUser"
        command = f"gcloud storage buckets add-iam-policy-binding gs://{bucket} {member} {role}"
        raise Refused(f"{account} may not use gs://{bucket}, so the machines cannot start: {command} ({skip})")


def _patiently(call: Callable[[], Answer], options: Options) -> Answer:
    return patient(call, options.limits.call_seconds)
