"""What the launcher and gcloud ask besides TPUs and storage: Compute Engine, Resource Manager, Secret Manager.

Owns the project, the virtual machines of `--controller`, permissions and secrets. A virtual machine is started by `machines`
and runs its startup script, as a TPU worker does.
"""

from __future__ import annotations

import base64
import itertools
import re

from cloud.server import Answer, ApiError, Call
from cloud.tpu import DEFAULT_ACCOUNT, PROJECT_NUMBER, now


class Compute:
    """The project's machines and permissions.

    Attributes:
      denied: permissions that the account does not have in the project.
      bindings: the project's policy, roles and their members.
      instances: the virtual machines by name.
      secrets: secret → payload.
    """

    def __init__(self, url: str, machines):
        self._url = f"{url}/compute/v1"
        self.machines = machines
        self.denied: set[str] = set()
        account = f"serviceAccount:{DEFAULT_ACCOUNT}"
        self.bindings: list[dict] = [{"role": "roles/tpu.admin", "members": [account]}]
        self.instances: dict[str, dict] = {}
        self.secrets: dict[str, bytes] = {}
        self.created = 0
        self._operations: dict[str, dict] = {}
        self._numbers = itertools.count(1)

    def answer(self, call: Call) -> Answer | None:
        """Answers what is known."""
        if match := re.fullmatch(r"/v\d/projects/([^/:]+):testIamPermissions", call.path):
            asked = call.body["permissions"]
            held = [permission for permission in asked if permission not in self.denied]
            return Answer(200, {"permissions": held} if held else {})
        if match := re.fullmatch(r"/v1/projects/([^/:]+)", call.path):
            described = {
                "projectNumber": PROJECT_NUMBER,
                "projectId": match[1],
                "lifecycleState": "ACTIVE",
                "name": match[1],
            }
            return Answer(200, described | {"createTime": now()})
        if re.fullmatch(r"/v\d/projects/([^/:]+):getIamPolicy", call.path):
            return Answer(200, {"version": 1, "etag": "BwWWja0YfJA=", "bindings": self.bindings})
        if match := re.fullmatch(r"/v1/projects/([^/]+)/secrets/([^/]+)/versions/([^/]+):access", call.path):
            project, secret, _ = match.groups()
            if secret not in self.secrets:
                raise ApiError(
                    "NOT_FOUND", f"Secret [projects/{project}/secrets/{secret}] not found or has no versions."
                )
            payload = {"data": base64.b64encode(self.secrets[secret]).decode()}
            return Answer(200, {"name": f"projects/{PROJECT_NUMBER}/secrets/{secret}/versions/1", "payload": payload})
        if not call.path.startswith("/compute/v1/"):
            return None
        rest = call.path.removeprefix("/compute/v1/")
        if match := re.fullmatch(r"projects/([^/]+)", rest):
            return Answer(200, self._project(match[1]))
        if match := re.fullmatch(r"projects/([^/]+)/zones/([^/]+)/operations/([^/]+)(/wait)?", rest):
            if match[3] not in self._operations:
                raise ApiError("NOT_FOUND", f"The resource '{rest}' was not found")
            return Answer(200, self._operations[match[3]])
        if match := re.fullmatch(r"projects/([^/]+)/zones/([^/]+)/instances(?:/([^/]+))?", rest):
            return self._instances(call, *match.groups())
        return None

    def _project(self, name: str) -> dict:
        return {
            "kind": "compute#project",
            "id": PROJECT_NUMBER,
            "name": name,
            "selfLink": f"{self._url}/projects/{name}",
            "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": "abcd1234efg="},
            "defaultServiceAccount": DEFAULT_ACCOUNT,
            "xpnProjectStatus": "UNSPECIFIED_XPN_PROJECT_STATUS",
        }

    def _instances(self, call: Call, project: str, zone: str, name: str | None) -> Answer | None:
        place = f"{self._url}/projects/{project}/zones/{zone}"
        if call.method == "GET" and name is None:
            items = list(self.instances.values())
            return Answer(200, {"kind": "compute#instanceList"} | ({"items": items} if items else {}))
        if call.method == "POST":
            name = call.body["name"]
            if name in self.instances:
                raise ApiError(
                    "ALREADY_EXISTS", f"The resource 'projects/{project}/zones/{zone}/instances/{name}' already exists"
                )
            self.created += 1
            self.instances[name] = call.body | {
                "kind": "compute#instance",
                "id": str(next(self._numbers)),
                "selfLink": f"{place}/instances/{name}",
                "zone": place,
                "status": "RUNNING",
                "creationTimestamp": now(),
            }
            items = {item["key"]: item["value"] for item in call.body.get("metadata", {}).get("items", [])}
            self.machines.create(name, self.created, 1)
            self.machines.start(name, {"metadata": items, "networkEndpoints": []})
            return Answer(200, self._operation(place, "insert", name))
        if name not in self.instances:
            raise ApiError(
                "NOT_FOUND", f"The resource 'projects/{project}/zones/{zone}/instances/{name}' was not found"
            )
        if call.method == "GET":
            return Answer(200, self.instances[name])
        if call.method == "DELETE":
            del self.instances[name]
            self.machines.destroy(name, soon=True)
            return Answer(200, self._operation(place, "delete", name))
        return None

    def _operation(self, place: str, kind: str, name: str) -> dict:
        number = next(self._numbers)
        operation = {
            "kind": "compute#operation",
            "id": str(number),
            "name": f"operation-{number}",
            "zone": place,
            "operationType": kind,
            "targetLink": f"{place}/instances/{name}",
            "status": "DONE",
            "progress": 100,
            "insertTime": now(),
            "endTime": now(),
            "selfLink": f"{place}/operations/operation-{number}",
        }
        self._operations[operation["name"]] = operation
        return operation
