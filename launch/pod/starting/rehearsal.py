"""The services of a dry run: each request is printed as a command, and answered as if everything went well.

The answers lead the supervisor through each stage once, so a dry run prints what a real run sends. No connection is opened
and gcloud is not run. Values of the trainer's environment are never printed.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pod.checkout import ROOT
from pod.clock import Clock
from pod.plane.control import FINISHED, Control, JobState, control_from
from pod.services import gcloud
from pod.services.bucket import Conflict, Listed
from pod.services.compute import MachineRequest
from pod.services.permissions import default_account
from pod.services.service import STABLE, Node, Problem, QueuedResource, SliceRequest

Print = Callable[[str], None]
STARTUP_SCRIPT = Path(__file__).resolve().parents[1].joinpath("startup.sh")
_NUMBER = "123456789012"


class RehearsalClock(Clock):
    """A clock that needs no waiting."""

    def sleep(self, seconds: float) -> None:
        """Returns at once."""


class RehearsedBucket:
    """A bucket in this process, with the methods of `bucket.Bucket` that a supervisor calls."""

    def __init__(self, name: str, region: str, show: Print):
        self.name, self._region, self._show = name, region, show
        self.objects: dict[str, tuple[bytes, int]] = {}

    def location(self) -> str:
        """Returns the region of the slice."""
        self._show(gcloud.describe_bucket(self.name))
        return self._region

    def read(self, name: str) -> tuple[bytes, int] | None:
        """Returns what was written."""
        self._show(gcloud.read_object(self._url(name)))
        return self.objects.get(name)

    def write(self, name: str, content: bytes, *, if_generation: int | None = None, **_: Any) -> int:
        """Keeps the content."""
        self._show(gcloud.write_object(_source(name, content), self._url(name), if_generation))
        generation = self.objects[name][1] if name in self.objects else 0
        if if_generation not in (None, generation):
            raise Conflict(name)
        self.objects[name] = (content, generation + 1)
        return generation + 1

    def delete(self, name: str, *, if_generation: int | None = None) -> bool:
        """Forgets an object."""
        self._show(gcloud.remove_object(self._url(name)))
        return self.objects.pop(name, None) is not None

    def list(self, prefix: str) -> Sequence[Listed]:
        """Returns nothing, because the machines of a dry run write nothing."""
        self._show(gcloud.list_objects(self._url(prefix)))
        return []

    def _url(self, name: str) -> str:
        return f"gs://{self.name}/{name}"


class RehearsedService:
    """Cloud TPU with one slice, which is ready at once and on which the job finishes at once."""

    def __init__(self, project: str, zone: str, machines: int, bucket: RehearsedBucket, show: Print):
        self.parent = f"projects/{project}/locations/{zone}"
        self._project, self._zone, self._machines = project, zone, machines
        self._bucket, self._show = bucket, show
        self._request: SliceRequest | None = None

    def has_accelerator_type(self, name: str) -> bool:
        """Returns True."""
        self._show(gcloud.describe_accelerator_type(name, self._project, self._zone))
        return True

    def create(self, request: SliceRequest) -> Problem | None:
        """Creates the slice, and writes as its keeper that the job is finished."""
        self._show(gcloud.create(request, STARTUP_SCRIPT))
        self._request = request
        for name, (content, _) in list(self._bucket.objects.items()):
            if name.endswith("/control.json"):
                folder = name.rpartition("/")[0]
                job = _finished(control_from(json.loads(content)))
                self._bucket.objects[f"{folder}/job.json"] = (json.dumps(dataclasses.asdict(job)).encode(), 1)
        return None

    def queued_resource(self, name: str, version: str = STABLE) -> QueuedResource | None:
        """Returns the requested slice."""
        self._show(gcloud.describe_queued_resource(name, self._project, self._zone, version))
        request = self._request
        if request is None:
            return None
        return QueuedResource(
            name=name, state="ACTIVE", node=name, accelerator_type=request.accelerator_type, metadata=request.metadata
        )

    def node(self, name: str, version: str = STABLE) -> Node | None:
        """Returns the machines of the slice."""
        self._show(gcloud.describe_node(name, self._project, self._zone, version))
        if self._request is None:
            return None
        return Node(name=name, state="READY", workers=self._machines, accelerator_type=self._request.accelerator_type)

    def delete_queued_resource(self, name: str, version: str = STABLE) -> bool:
        """Deletes the slice."""
        self._show(gcloud.delete_queued_resource(name, self._project, self._zone, version))
        there, self._request = self._request is not None, None
        return there

    def delete_node(self, name: str, version: str = STABLE) -> bool:
        """Is never called: a node is deleted with its queued resource."""
        self._show(gcloud.delete_node(name, self._project, self._zone, version))
        return False

    def simulate_maintenance(self, name: str, workers: tuple[int, ...]) -> None:
        """Does nothing."""
        self._show(gcloud.simulate_maintenance(name, self._project, self._zone, workers))


class RehearsedCompute:
    """Compute Engine without machines, where every request succeeds."""

    def __init__(self, project: str, zone: str, show: Print):
        self._project, self._zone, self._show = project, zone, show

    def create(self, request: MachineRequest) -> None:
        """Makes nothing."""
        self._show(gcloud.create_instance(request, STARTUP_SCRIPT))

    def delete(self, name: str) -> bool:
        """Deletes nothing."""
        self._show(gcloud.delete_instance(name, self._project, self._zone))
        return False


class RehearsedPolicies:
    """Policies that give the machines' account its rights."""

    def __init__(self, account: str, show: Print):
        self._account, self._show = account or default_account(_NUMBER), show

    def project_number(self, project: str) -> str:
        """Returns a number."""
        self._show(gcloud.describe_project(project))
        return _NUMBER

    def of_project(self, project: str) -> dict[str, Any]:
        """Returns a policy that lets the account delete slices."""
        self._show(gcloud.project_policy(project))
        return {"bindings": [{"role": "roles/tpu.admin", "members": [f"serviceAccount:{self._account}"]}]}

    def of_bucket(self, bucket: str) -> dict[str, Any]:
        """Returns a policy that lets the account read and write."""
        self._show(gcloud.bucket_policy(bucket))
        return {"bindings": [{"role": "roles/storage.objectUser", "members": [f"serviceAccount:{self._account}"]}]}


def _finished(control: Control) -> JobState:
    return JobState(incarnation=control.incarnation, job=control.job.id, attempt=1, state="ended", outcome=FINISHED)


def _source(name: str, content: bytes) -> str:
    """Returns a command that prints an object's content, without values of the trainer's environment."""
    last = name.rsplit("/", 1)[-1]
    if last.startswith("code-"):
        return f"PYTHONPATH={shlex.quote(str(ROOT / 'launch'))} python3 -m pod.checkout"
    if last.startswith("environment-"):
        names = sorted(json.loads(content))
        code = f"import json, os; print(json.dumps({{name: os.environ[name] for name in {names!r}}}))"
        return gcloud.line(["python3", "-c", code])
    return gcloud.line(["printf", "%s", json.dumps(json.loads(content))])
