"""Compute Engine: the project, its virtual machines, and the default network's part in a region.

A virtual machine is started by `machines` and runs its startup script, as a TPU worker does.
"""

from __future__ import annotations

import itertools
import re

from cloud.server import Answer, ApiError, Call
from cloud.slices import DEFAULT_ACCOUNT, PROJECT_NUMBER, now


class Compute:
    """The project's machines.

    Attributes:
      instances: the virtual machines by name.
      created: how many were made.
      common: the metadata of all machines of the project.
      subnetworks: the default network's part in each region that was asked about.
    """

    def __init__(self, url: str, machines):
        self._url = f"{url}/compute/v1"
        self.machines = machines
        self.instances: dict[str, dict] = {}
        self.subnetworks: dict[str, dict] = {}
        self.common: dict = {}
        self.created = 0
        self._operations: dict[str, dict] = {}
        self._numbers = itertools.count(1)

    def answer(self, call: Call) -> Answer | None:
        """Answers what is known."""
        if not call.path.startswith("/compute/v1/"):
            return None
        rest = call.path.removeprefix("/compute/v1/")
        if match := re.fullmatch(r"projects/([^/]+)", rest):
            return Answer(200, self._project(match[1]))
        if match := re.fullmatch(r"projects/([^/]+)/zones/([^/]+)/operations/([^/]+)(/wait)?", rest):
            if match[3] not in self._operations:
                raise ApiError("NOT_FOUND", f"The resource '{rest}' was not found")
            return Answer(200, self._operations[match[3]])
        if match := re.fullmatch(r"projects/([^/]+)/regions/([^/]+)/operations/([^/]+)(/wait)?", rest):
            return Answer(200, self._operations[match[3]])
        if match := re.fullmatch(r"projects/([^/]+)/aggregated/instances", rest):
            items = {"zones/any": {"instances": list(self.instances.values())}} if self.instances else {}
            return Answer(200, {"kind": "compute#instanceAggregatedList", "items": items})
        if match := re.fullmatch(r"projects/([^/]+)/global/operations/([^/]+)(/wait)?", rest):
            return Answer(200, self._operations[match[2]])
        if match := re.fullmatch(r"projects/([^/]+)/setCommonInstanceMetadata", rest):
            self.common = call.body
            return Answer(
                200, self._operation(f"{self._url}/projects/{match[1]}/global", "setMetadata", f"projects/{match[1]}")
            )
        if match := re.fullmatch(r"projects/([^/]+)/zones/([^/]+)", rest):
            described = {"kind": "compute#zone", "name": match[2], "status": "UP", "selfLink": f"{self._url}/{rest}"}
            return Answer(200, described | {"region": f"{self._url}/projects/{match[1]}/regions/{match[2][:-2]}"})
        if match := re.fullmatch(r"projects/([^/]+)/regions/([^/]+)/subnetworks/([^/]+)(?:/(\w+))?", rest):
            return self._subnetwork(call, *match.groups())
        if match := re.fullmatch(r"projects/([^/]+)/zones/([^/]+)/instances(?:/([^/]+))?", rest):
            return self._instances(call, *match.groups())
        return None

    def _project(self, name: str) -> dict:
        return {
            "kind": "compute#project",
            "id": PROJECT_NUMBER,
            "name": name,
            "selfLink": f"{self._url}/projects/{name}",
            "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": "abcd1234efg="} | self.common,
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
            for interface in self.instances[name].get("networkInterfaces", []):
                interface |= {"name": "nic0", "networkIP": "10.164.0.200"}
                for access in interface.get("accessConfigs", []):
                    access["natIP"] = "192.0.2.200"
            items = {item["key"]: item["value"] for item in call.body.get("metadata", {}).get("items", [])}
            self.machines.create(name, self.created, 1)
            self.machines.start(name, {"metadata": items, "networkEndpoints": []})
            return Answer(200, self._operation(place, "insert", f"instances/{name}"))
        if name not in self.instances:
            raise ApiError(
                "NOT_FOUND", f"The resource 'projects/{project}/zones/{zone}/instances/{name}' was not found"
            )
        if call.method == "GET":
            return Answer(200, self.instances[name])
        if call.method == "DELETE":
            del self.instances[name]
            self.machines.destroy(name, soon=True)
            return Answer(200, self._operation(place, "delete", f"instances/{name}"))
        return None

    def _subnetwork(self, call: Call, project: str, region: str, name: str, verb: str | None) -> Answer:
        place = f"{self._url}/projects/{project}/regions/{region}"
        found = self.subnetworks.setdefault(
            f"{region}/{name}",
            {
                "kind": "compute#subnetwork",
                "id": "1",
                "name": name,
                "region": place,
                "selfLink": f"{place}/subnetworks/{name}",
                "network": f"{self._url}/projects/{project}/global/networks/default",
                "ipCidrRange": "10.128.0.0/20",
                "privateIpGoogleAccess": False,
                "fingerprint": "abcd1234efg=",
            },
        )
        if verb == "setPrivateIpGoogleAccess":
            found |= call.body
            return Answer(200, self._operation(place, "patch", f"subnetworks/{name}"))
        return Answer(200, found)

    def _operation(self, place: str, kind: str, target: str) -> dict:
        number = next(self._numbers)
        operation = {
            "kind": "compute#operation",
            "id": str(number),
            "name": f"operation-{number}",
            **({} if place.endswith("global") else {"region" if "/regions/" in place else "zone": place}),
            "operationType": kind,
            "targetLink": f"{place}/{target}",
            "status": "DONE",
            "progress": 100,
            "insertTime": now(),
            "endTime": now(),
            "selfLink": f"{place}/operations/operation-{number}",
        }
        self._operations[operation["name"]] = operation
        return operation
