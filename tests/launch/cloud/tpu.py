"""Cloud TPU: queued resources, the nodes in them, operations and accelerator types, as API v2 and v2alpha1 have them.

Owns their JSON, their life and the bill. A request goes through the states of its `lifecycles` entry by itself, whoever
looks or does not; a test may hold it in one, move it on, or take the machines back. `machines` starts and ends what runs on
a node. The bill says when a node was ready and when it was gone.
"""

from __future__ import annotations

import copy
import itertools
import re
import threading
import time
from dataclasses import dataclass, field

from cloud import tpu_fields
from cloud.server import Answer, ApiError, Call

PROJECT_NUMBER = "123456789012"
DEFAULT_ACCOUNT = f"{PROJECT_NUMBER}-compute@developer.gserviceaccount.com"
MOMENT_SECONDS = 0.02  # between two states of a lifecycle
REQUEST_STATES = (
    *("STATE_UNSPECIFIED", "CREATING", "ACCEPTED", "PROVISIONING", "FAILED", "DELETING", "ACTIVE", "SUSPENDING"),
    *("SUSPENDED", "WAITING_FOR_RESOURCES"),
)
NODE_STATES = (
    *(
        "STATE_UNSPECIFIED",
        "CREATING",
        "READY",
        "RESTARTING",
        "REIMAGING",
        "DELETING",
        "REPAIRING",
        "STOPPED",
        "STOPPING",
    ),
    *("STARTING", "PREEMPTED", "TERMINATED", "HIDING", "HIDDEN", "UNHIDING", "UNKNOWN"),
)
# The data that the API sends beside a state.
_STATE_DATA = {
    "CREATING": "creatingData",
    "ACCEPTED": "acceptedData",
    "WAITING_FOR_RESOURCES": "acceptedData",
    "PROVISIONING": "provisioningData",
    "ACTIVE": "activeData",
    "SUSPENDING": "suspendingData",
    "SUSPENDED": "suspendedData",
    "DELETING": "deletingData",
    "FAILED": "failedData",
}
_ENDED = ("FAILED", "SUSPENDED")
DEFAULT_LIFE = ("ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
# accelerator type: (workers, what the API calls the generation, topology)
TYPES = {
    "v3-32": (4, "V3", "4x4"),
    "v2-8": (1, "V2", "2x2"),
    "v3-8": (1, "V3", "2x2"),
    "v5litepod-16": (4, "V5LITE_POD", "4x4"),
    "v6e-8": (1, "V6E", "2x4"),
    "v5p-16": (2, "V5P", "2x2x2"),
    "v5p-64": (8, "V5P", "2x4x4"),
}


def now() -> str:
    """The time as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() % 10**9:09d}Z"


@dataclass
class Bill:
    """A node, from when it was ready to when it was gone, in seconds of `time.monotonic`."""

    node: str
    incarnation: int
    ready: float
    gone: float | None = None


@dataclass
class _Request:
    """A queued resource, the states that are still to come, and whether it is held in this one."""

    json: dict
    number: int
    coming: list
    node: str = ""
    until: float | None = None
    changed: threading.Event = field(default_factory=threading.Event)


class CloudTpu:
    """The service for one project.

    Attributes:
      lifecycles: for each request in order, the states after CREATING; the last one serves all that follow. The last state
        of a life stays.
      created: how many slices have been asked for.
      requests: the queued resources by their full names; nodes: the nodes.
      bills: what was ready and for how long.
    """

    def __init__(self, machines):
        self.machines = machines
        self.lifecycles: list = [DEFAULT_LIFE]
        self.types = dict(TYPES)
        self.created = 0
        self.requests: dict[str, _Request] = {}
        self.nodes: dict[str, dict] = {}
        self.operations: dict[str, dict] = {}
        self.bills: list[Bill] = []
        self.history: list[tuple[float, str, str]] = []  # (time, resource, state)
        self.lock = threading.RLock()
        self._closed = threading.Event()
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Lets no state follow any more."""
        self._closed.set()

    # What tests do and ask.

    def request(self, name: str = "t") -> _Request | None:
        """The queued resource whose last name is `name`."""
        with self.lock:
            return next((found for full, found in self.requests.items() if full.endswith(f"/{name}")), None)

    def node(self, name: str = "t") -> dict | None:
        """The node whose last name is `name`."""
        with self.lock:
            return next((found for full, found in self.nodes.items() if full.endswith(f"/{name}")), None)

    def set_state(self, name: str, state: str, initiator: str = "", error: dict | None = None) -> None:
        """Moves a queued resource into a state, where it stays."""
        with self.lock:
            request = self.request(name)
            request.coming = []
            self._enter(request, state, initiator, error)

    def set_node_state(self, name: str, state: str, **more) -> None:
        """Moves a node into a state, where it stays; `more` are further fields."""
        with self.lock:
            self.node(name).update(state=state, **more)
            self.history.append((time.monotonic(), f"nodes/{name}", state))

    def preempt(self, name: str = "t", node_state: str = "PREEMPTED", initiator: str = "SERVICE", then=None) -> None:
        """Takes the machines back at once, as the service does; `then` are the states that the request goes through."""
        with self.lock:
            request = self.request(name)
            self.set_node_state(request.node, node_state)
            self._destroy(request.node)
            request.coming = [(state, initiator) for state in (("SUSPENDING", "SUSPENDED") if then is None else then)]
            threading.Thread(target=self._live, args=(request,), daemon=True).start()

    def delete_node_as_user(self, name: str = "t") -> None:
        """What the console does: the node goes, and its request is suspended by USER."""
        with self.lock:
            request = self.request(name)
            self._destroy(request.node)
            self.nodes.pop(self._full_node(request))
            request.coming = []
            self._enter(request, "SUSPENDED", "USER")

    def delete_request_as_user(self, name: str = "t") -> None:
        """What the console does: the request goes, with its node."""
        with self.lock:
            self._remove(self.request(name).json["name"], "v2")

    @property
    def holds(self) -> list[str]:
        """The names of all that is there, and so may be billed."""
        with self.lock:
            return sorted([*self.requests, *self.nodes])

    # The life of a request.

    def _enter(self, request: _Request, state: str, initiator: str = "", error: dict | None = None) -> None:
        described: dict = {"state": state}
        if state in _STATE_DATA:
            described[_STATE_DATA[state]] = {"error": error or _NO_CAPACITY} if state == "FAILED" else {}
        if initiator:
            described["stateInitiator"] = initiator
        request.json["state"] = described
        self.history.append((time.monotonic(), request.json["name"].split("locations/")[1].split("/", 1)[1], state))
        if state == "PROVISIONING" and self._full_node(request) not in self.nodes:
            self._make_node(request)
        if state == "ACTIVE":
            if self._full_node(request) not in self.nodes:
                self._make_node(request)
            node = self.nodes[self._full_node(request)]
            if node["state"] == "CREATING":
                node["state"] = "READY"
                node["health"] = "HEALTHY"
                self.bills.append(Bill(request.node, request.number, time.monotonic()))
                self.machines.start(request.node, node)
        if state in _ENDED:
            self.nodes.pop(self._full_node(request), None)
        request.changed.set()

    def _live(self, request: _Request) -> None:
        while not self._closed.wait(MOMENT_SECONDS):
            with self.lock:
                late = request.until is not None and time.monotonic() > request.until
                if late and request.json["state"]["state"] in ("CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES"):
                    request.coming = []
                    self._enter(request, "FAILED", error=_TOO_LATE)
                if request.json["name"] not in self.requests or (not request.coming and request.until is None):
                    return
                if request.coming:
                    state = request.coming.pop(0)
                    self._enter(request, *((state,) if isinstance(state, str) else state))

    def _full_node(self, request: _Request) -> str:
        return request.json["name"].split("/queuedResources/")[0] + "/nodes/" + request.node

    def _make_node(self, request: _Request) -> None:
        spec = request.json["tpu"]["nodeSpec"][0]
        wanted = spec["node"]
        workers, generation, topology = self.types[wanted["acceleratorType"]]
        network = {"network": "default", "enableExternalIps": True} | wanted.get("networkConfig", {})
        endpoints = []
        for index in range(workers):
            endpoint: dict = {"ipAddress": f"10.164.0.{index + 2}", "port": 8470, "accessConfig": {}}
            if network["enableExternalIps"]:
                endpoint["accessConfig"] = {"externalIp": f"192.0.2.{index + 2}"}
            endpoints.append(endpoint)
        location = spec["parent"].split("/")[-1]
        node = copy.deepcopy(wanted) | {
            "name": self._full_node(request),
            "state": "CREATING",
            "id": str(7_000_000_000_000_000_000 + request.number),
            "createTime": now(),
            "apiVersion": "V2",
            "acceleratorConfig": {"type": generation, "topology": topology},
            "networkConfig": network,
            "networkEndpoints": endpoints,
            "queuedResource": f"projects/{PROJECT_NUMBER}/locations/{location}/queuedResources/"
            + request.json["name"].split("/")[-1],
            "schedulingConfig": {"spot": True} if "spot" in request.json else {},
            "shieldedInstanceConfig": {},
        }
        node["serviceAccount"] = {
            "email": DEFAULT_ACCOUNT,
            "scope": ["https://www.googleapis.com/auth/cloud-platform"],
        } | node.get("serviceAccount", {})
        self.nodes[node["name"]] = node
        self.machines.create(request.node, request.number, workers)

    def _destroy(self, node: str) -> None:
        self.machines.destroy(node)
        for bill in self.bills:
            if bill.node == node and bill.gone is None:
                bill.gone = time.monotonic()

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
        request = _Request(
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
        return self._remove(full, version)

    def _remove(self, full: str, version: str) -> dict:
        request = self.requests[full]
        request.coming, request.until = [], None
        self._enter(request, "DELETING", "USER")
        operation = self._start_operation(version, full, "delete", {}, done=False)

        def finish() -> None:
            self._closed.wait(MOMENT_SECONDS)  # the answer is on its way: who asked may be on a machine that goes
            with self.lock:
                if self.requests.get(full) is request:
                    self._destroy(request.node)
                    self.nodes.pop(self._full_node(request), None)
                    del self.requests[full]
                    self.history.append((time.monotonic(), full.split("/", 4)[4], "GONE"))
                self._finish_operation(operation["name"], {})

        threading.Thread(target=finish, daemon=True).start()
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


_NO_CAPACITY = {
    "code": 8,
    "message": 'There is no more capacity in the zone "europe-west4-a"; you can try in another zone where Cloud TPU Nodes'
    " are offered (see https://cloud.google.com/tpu/docs/regions)",
}
_TOO_LATE = {"code": 4, "message": "The valid until duration of the queued resource has expired."}


def quota_error(kind: str = "TPUV3sPodPerProjectPerZoneForTPUAPI") -> ApiError:
    """The refusal of a request beyond a quota."""
    message = f"Quota limit '{kind}' has been exceeded. Limit: 0 in zone europe-west4-a."
    violation = {"subject": f"project_number:{PROJECT_NUMBER}", "description": message}
    detail = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}
    return ApiError("RESOURCE_EXHAUSTED", message, [detail])


def permission_error(permission: str = "tpu.nodes.create") -> ApiError:
    """The refusal for an account without a permission."""
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": {"permission": permission, "resource": "projects/project/locations/europe-west4-a"},
    }
    message = f"Permission '{permission}' denied on 'projects/project/locations/europe-west4-a'"
    return ApiError("PERMISSION_DENIED", message, [detail])


def disabled_error(service: str = "tpu.googleapis.com") -> ApiError:
    """The refusal for a project in which the API is not enabled."""
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"service": service, "consumer": f"projects/{PROJECT_NUMBER}"},
    }
    message = (
        f"Cloud TPU API has not been used in project {PROJECT_NUMBER} before or it is disabled. Enable it by visiting"
    )
    message += (
        f" https://console.developers.google.com/apis/api/{service}/overview?project={PROJECT_NUMBER} then retry."
    )
    return ApiError("PERMISSION_DENIED", message, [detail])
