"""Connects a command to the real services, or to those of a dry run.

It also defines the name under which this machine supervises.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from typing import Any

from pod.clock import Clock
from pod.options import Options
from pod.plane.control_plane import ControlPlane
from pod.record import Record
from pod.services import gcloud
from pod.services.bucket import Bucket, split_url
from pod.services.compute import Compute
from pod.services.credentials import Credentials, GcloudCredentials, MetadataCredentials
from pod.services.endpoints import find_endpoints
from pod.services.permissions import Policies
from pod.services.service import Service
from pod.slices.controller import CREDENTIALS
from pod.starting.rehearsal import (
    RehearsalClock,
    RehearsedBucket,
    RehearsedCompute,
    RehearsedPolicies,
    RehearsedService,
)


def make_clock(options: Options) -> Clock:
    """Returns the clock; that of a dry run needs no waiting."""
    return RehearsalClock() if options.dry_run else Clock()


def connect(
    options: Options, environment: Mapping[str, str], control: str, machines: int
) -> tuple[Any, ControlPlane, Any]:
    """Returns the service, the control plane and the policies, real or of a dry run."""
    credentials = find_credentials(environment)
    name, folder = split_url(control)
    if not options.dry_run:
        service = Service(credentials, options.project, options.zone)
        plane = ControlPlane(Bucket(name, credentials, patience=options.limits.call_seconds), folder)
        return service, plane, Policies(credentials, find_endpoints())
    print(gcloud.access_token())
    bucket = RehearsedBucket(name, options.zone.rpartition("-")[0], print)
    service = RehearsedService(options.project, options.zone, machines, bucket, print)
    return service, ControlPlane(bucket, folder), RehearsedPolicies(options.service_account, print)  # type: ignore[arg-type]


def connect_compute(options: Options, environment: Mapping[str, str]) -> Any:
    """Returns Compute Engine."""
    if options.dry_run:
        return RehearsedCompute(options.project, options.zone, print)
    return Compute(find_credentials(environment), options.project, options.zone, find_endpoints())


def find_credentials(environment: Mapping[str, str]) -> Credentials:
    """Returns the source of tokens: gcloud, or the metadata server if POD_CREDENTIALS says so."""
    if environment.get(CREDENTIALS) == "metadata":
        return MetadataCredentials(find_endpoints(environment))
    return GcloudCredentials(environment=environment)


def owner_name(record: Record) -> str:
    """Returns the name of this supervisor: user, machine, and the record on that machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}:{record.folder}".replace(" ", "_")
