"""Cloud TPU: queued resources, nodes, operations and accelerator types, as API v2 and v2alpha1 have them.

Owns what is asked and answered, and the operations; the slices themselves are in `slices.py`, the fields of a request in
`tpu_fields.py`.
"""

from __future__ import annotations

import copy
import itertools
import re
import threading
import time

from cloud import tpu_fields
from cloud.server import Answer, ApiError, Call
from cloud.slices import Request, Slices, now


class CloudTpu(Slices):
    """The service for one project."""

    def __init__(self, machines):
        super().__init__(machines)
        self.operations: dict[str, dict] = {}
        self._numbers = itertools.count(1)

    # The API.

    def answer(self, call: Call) -> Answer | None:
        """Answers the calls below /v2 and /v2alpha1."""
        match = re.fullmatch(
            r"/(v2|v2alpha1)/projects/([^/]+)/locations/([^/]+)/(\w+)(?:/([^/:]+))?(?::(\w+))?", call.path
        )
        if not match:
            return None
        version, project, location, collection, name, verb = match.groups()
        parent = f"projects/{project}/locations/{location}"
        full = f"{parent}/{collection}/{name}"
        routes = {
            ("POST", "queuedResources", False, None): lambda: self._create(call, version, parent),
            ("GET", "queuedResources", False, None): lambda: self._list("queuedResources", parent),
            ("GET", "queuedResources", True, None): lambda: self._find(full),
            ("DELETE", "queuedResources", True, None): lambda: self._delete(call, version, full),
            ("GET", "nodes", False, None): lambda: self._list("nodes", parent),
            ("GET", "nodes", True, None): lambda: self._find(full),
            ("DELETE", "nodes", True, None): lambda: self._delete_node(version, full),
            ("PATCH", "nodes", True, None): lambda: self._patch_node(call, version, full),
            ("POST", "nodes", True, "getGuestAttributes"): lambda: self._guest_attributes(call, full),
            ("POST", "nodes", True, "simulateMaintenanceEvent"): lambda: self._simulate(version, full),
            ("GET", "operations", True, None): lambda: self._operation(full),
            ("GET", "acceleratorTypes", False, None): lambda: self._types(parent),
            ("GET", "acceleratorTypes", True, None): lambda: self._type(full),
        }
        route = routes.get((call.method, collection, name is not None, verb))
        if route is None:
            return None
        with self.lock:
            return Answer(200, copy.deepcopy(route()))

    def _create(self, call: Call, version: str, parent: str) -> dict:
        body = call.body
        name = f"{parent}/queuedResources/{call.query.get('queuedResourceId', '')}"
        # As for every Google API, fields that only the service writes are ignored: gcloud sends none of them.
        tpu_fields.check(body, tpu_fields.QUEUED_RESOURCE[version])
        spec = body["tpu"]["nodeSpec"][0]
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", spec.get("nodeId", "")):
            raise ApiError("INVALID_ARGUMENT", f"Invalid node ID: {spec.get('nodeId')!r}")
        if spec.get("parent") != parent:
            raise ApiError("INVALID_ARGUMENT", "The parent of the node must be that of the queued resource.")
        wanted = spec["node"]
        if wanted.get("acceleratorType") not in self.types:
            raise ApiError("INVALID_ARGUMENT", f"Invalid accelerator type: {wanted.get('acceleratorType')!r}")
        if not wanted.get("runtimeVersion"):
            raise ApiError("INVALID_ARGUMENT", "The runtime version is required.")
        if "spot" in body and "guaranteed" in body:
            raise ApiError("INVALID_ARGUMENT", "Only one of the tiers may be given.")
        model = body.get("provisioningModel", "STANDARD")
        if model not in tpu_fields.PROVISIONING_MODELS:
            raise ApiError("INVALID_ARGUMENT", f"Invalid value at 'queued_resource.provisioning_model', {model!r}")
        if model == "FLEX_START" and "maxRunDuration" not in body.get("runDuration", {}):
            raise ApiError("INVALID_ARGUMENT", "Flex-start needs a run duration.")
        for key, value in wanted.get("metadata", {}).items():
            if len(value.encode()) > 262144:
                raise ApiError("INVALID_ARGUMENT", f"Metadata value of {key!r} is larger than 262144 bytes.")
        if name in self.requests:
            raise ApiError("ALREADY_EXISTS", f"Resource '{name}' already exists")
        number = self.created
        self.created += 1
        life = self.lifecycles[min(number, len(self.lifecycles) - 1)]
        request = Request(
            body | {"name": name, "createTime": now(), "state": {"state": "CREATING", "creatingData": {}}},
            number,
            list(life),
            node=spec["nodeId"],
        )
        until = body.get("queueingPolicy", {}).get("validUntilDuration")
        if until is not None:
            if not re.fullmatch(r"\d+(\.\d+)?s", until):
                raise ApiError("INVALID_ARGUMENT", f"Illegal duration format; {until!r}")
            request.until = time.monotonic() + float(until[:-1])
        self.requests[name] = request
        threading.Thread(target=self._live, args=(request,), daemon=True).start()
        return self._start_operation(version, name, "create", request.json)

    def _delete(self, call: Call, version: str, full: str) -> dict:
        request = self.requests.get(full)
        if request is None:
            raise _not_found(full)
        state = request.json["state"]["state"]
        if call.query.get("force", "").lower() != "true" and self._full_node(request) in self.nodes:
            message = f"The queued resource is in the state {state} and has nodes; set force to delete them too."
            raise ApiError("FAILED_PRECONDITION", message)
        operation = self._start_operation(version, full, "delete", {}, done=False)
        self._remove(full, lambda: self._finish_operation(operation["name"], {}))
        return operation

    def _delete_node(self, version: str, full: str) -> dict:
        if full not in self.nodes:
            raise _not_found(full)
        owner = next((request for request in self.requests.values() if self._full_node(request) == full), None)
        self._destroy(full.split("/")[-1])
        del self.nodes[full]
        if owner is not None and owner.json["state"]["state"] == "ACTIVE":
            owner.coming = []
            self._enter(owner, "SUSPENDED", "USER")
        return self._start_operation(version, full, "delete", {})

    def _patch_node(self, call: Call, version: str, full: str) -> dict:
        node = self.nodes.get(full)
        if node is None:
            raise _not_found(full)
        for key in call.query["updateMask"].split(","):
            node[key] = call.body.get(key, {})
        return self._start_operation(version, full, "update", node)

    def _guest_attributes(self, call: Call, full: str) -> dict:
        if full not in self.nodes:
            raise _not_found(full)
        workers = (call.body or {}).get("workerIds") or range(len(self.nodes[full]["networkEndpoints"]))
        entry = {"namespace": "hostkeys", "key": "ssh-ed25519", "value": "AAAAC3NzaC1lZDI1NTE5AAAAIExample"}
        value = {"queryPath": "", "queryValue": {"items": [entry]}}
        return {"guestAttributes": [value for _ in workers]}

    def _simulate(self, version: str, full: str) -> dict:
        if version != "v2alpha1":
            raise ApiError("NOT_FOUND", "Method not found.")
        if full not in self.nodes:
            raise _not_found(full)
        owner = next(request for request in self.requests.values() if self._full_node(request) == full)
        self.preempt(owner.json["name"].split("/")[-1], "TERMINATED")
        return self._start_operation(version, full, "simulateMaintenanceEvent", {})

    def _list(self, collection: str, parent: str) -> dict:
        found = {name: request.json for name, request in self.requests.items()} if collection[0] == "q" else self.nodes
        items = [json for name, json in found.items() if name.startswith(f"{parent}/")]
        return {collection: items} if items else {}

    def _find(self, full: str) -> dict:
        found = self.requests[full].json if full in self.requests else self.nodes.get(full)
        if found is None:
            raise _not_found(full)
        return found

    def _type_json(self, parent: str, name: str) -> dict:
        _, generation, topology = self.types[name]
        configs = [{"type": generation, "topology": topology}]
        return {"name": f"{parent}/acceleratorTypes/{name}", "type": name, "acceleratorConfigs": configs}

    def _types(self, parent: str) -> dict:
        return {"acceleratorTypes": [self._type_json(parent, name) for name in self.types]}

    def _type(self, full: str) -> dict:
        parent, _, name = full.partition("/acceleratorTypes/")
        if name not in self.types:
            raise _not_found(full)
        return self._type_json(parent, name)

    def _start_operation(self, version: str, target: str, verb: str, response: dict, done: bool = True) -> dict:
        number = next(self._numbers)
        parent = target.rsplit("/", 2)[0]
        name = f"{parent}/operations/operation-{1_700_000_000_000 + number}-{number:013x}-{number:08x}-{number:08x}"
        metadata = {
            "@type": f"type.googleapis.com/google.cloud.tpu.{version}.OperationMetadata",
            "createTime": now(),
            "target": target,
            "verb": verb,
            "cancelRequested": False,
            "apiVersion": version,
        }
        operation = {"name": name, "metadata": metadata, "done": False}
        self.operations[name] = dict(operation)
        if done:
            kind = "Node" if "/nodes/" in target else "QueuedResource"
            self._finish_operation(
                name, response and response | {"@type": f"type.googleapis.com/google.cloud.tpu.{version}.{kind}"}
            )
        return operation

    def _finish_operation(self, name: str, response: dict) -> None:
        operation = self.operations[name]
        metadata = operation["metadata"] | {"endTime": now()}
        empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        self.operations[name] = operation | {"done": True, "metadata": metadata, "response": response or empty}

    def _operation(self, full: str) -> dict:
        if full not in self.operations:
            raise _not_found(full)
        return self.operations[full]


def _not_found(full: str) -> ApiError:
    return ApiError("NOT_FOUND", f"Resource '{full}' was not found")
