"""Slices: queued resources and the nodes in them, how they live, and the bill.

Owns their JSON and their states. A request goes through the states of its `lifecycles` entry by itself, whoever looks or does
not; a test may hold it in one, move it on, or take the machines back. `machines` starts and ends what runs on a node. The bill
says when a node was ready and when it was gone.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

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
class Request:
    """A queued resource, the states that are still to come, and whether it is held in this one."""

    json: dict
    number: int
    coming: list
    node: str = ""
    until: float | None = None
    changed: threading.Event = field(default_factory=threading.Event)


class Slices:
    """All slices of a project.

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
        self.requests: dict[str, Request] = {}
        self.nodes: dict[str, dict] = {}
        self.bills: list[Bill] = []
        self.history: list[tuple[float, str, str]] = []  # (time, resource, state)
        self.lock = threading.RLock()
        self._closed = threading.Event()

    def close(self) -> None:
        """Lets no state follow any more."""
        self._closed.set()

    # What tests do and ask.

    def request(self, name: str = "t") -> Request | None:
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
            self._remove(self.request(name).json["name"], lambda: None)

    @property
    def holds(self) -> list[str]:
        """The names of all that is there, and so may be billed."""
        with self.lock:
            return sorted([*self.requests, *self.nodes])

    # The life of a request.

    def _enter(self, request: Request, state: str, initiator: str = "", error: dict | None = None) -> None:
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

    def _live(self, request: Request) -> None:
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

    def _remove(self, full: str, done: Callable[[], None]) -> None:
        """Deletes a queued resource with its node, and says so to `done` when both are gone."""
        request = self.requests[full]
        request.coming, request.until = [], None
        self._enter(request, "DELETING", "USER")

        def finish() -> None:
            self._closed.wait(MOMENT_SECONDS)  # the answer is on its way: who asked may be on a machine that goes
            with self.lock:
                if self.requests.get(full) is request:
                    self._destroy(request.node)
                    self.nodes.pop(self._full_node(request), None)
                    del self.requests[full]
                    self.history.append((time.monotonic(), full.split("/", 4)[4], "GONE"))
                done()

        threading.Thread(target=finish, daemon=True).start()

    def _full_node(self, request: Request) -> str:
        return request.json["name"].split("/queuedResources/")[0] + "/nodes/" + request.node

    def _make_node(self, request: Request) -> None:
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


_NO_CAPACITY = {
    "code": 8,
    "message": 'There is no more capacity in the zone "europe-west4-a"; you can try in another zone where Cloud TPU Nodes'
    " are offered (see https://cloud.google.com/tpu/docs/regions)",
}
_TOO_LATE = {"code": 4, "message": "The valid until duration of the queued resource has expired."}
