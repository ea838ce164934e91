"""Delivers code and environment to the machines of a slice through the bucket.

The environment is in the bucket only until all workers have read it. Then they delete it; whoever replaces or ends a slice
deletes it too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from pod.plane.control import Control
from pod.plane.control_plane import ControlPlane
from pod.services.bucket import ABSENT, Conflict


@dataclass(frozen=True)
class Material:
    """The material that a slice needs.

    Attributes:
      code: the archive of the checkout.
      code_name: the name of the archive's object.
      environment: the trainer's environment.
      secrets: names in the environment with their versions in Secret Manager.
      startup_script: the script that each machine runs at its start.
    """

    code: bytes
    code_name: str
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    startup_script: str


def upload(plane: ControlPlane, control: Control, material: Material) -> Control:
    """Uploads code and environment, and deletes the old environment; returns `control` with the names of their objects."""
    upload_code(plane, material)
    delete_environment(plane, control)
    environment = upload_environment(plane, material)
    return dataclasses.replace(
        control, job=dataclasses.replace(control.job, code=material.code_name, environment=environment)
    )


def upload_code(plane: ControlPlane, material: Material) -> None:
    """Puts the checkout's archive into the bucket, unless it is there already: its name contains its checksum."""
    with contextlib.suppress(Conflict):
        plane.bucket.write(
            plane.name(material.code_name), material.code, if_generation=ABSENT, content_type="application/gzip"
        )


def upload_environment(plane: ControlPlane, material: Material) -> str:
    """Puts the trainer's environment into an object and returns its name; "" if it is empty."""
    if not material.environment:
        return ""
    name = f"environment-{secrets.token_hex(8)}"
    content = json.dumps(dict(material.environment)).encode()
    plane.bucket.write(plane.name(name), content, if_generation=ABSENT, content_type="application/json")
    return name


def delete_environment(plane: ControlPlane, control: Control) -> None:
    """Deletes the trainer's environment if a slice ended before all its workers had read it."""
    if control.job.environment:
        plane.bucket.delete(plane.name(control.job.environment))
