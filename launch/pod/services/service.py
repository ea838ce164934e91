"""The Cloud TPU API: queued resources and the nodes in them, over REST.

Owns the form of requests and answers (v2; v2alpha1 for what only that has). Never decides anything and remembers nothing.
A request has exactly the form that `gcloud compute tpus …` sends for the same wish, which `gcloud.py` prints and the tests
compare. Fields and enumerations are those of the REST reference. Errors are `http.ApiError`, in the service's own words, and
`credentials.CredentialsError`. Nothing is tried again here.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pod.services import http
from pod.services.credentials import Credentials, authorized
from pod.services.endpoints import Endpoints, find_endpoints

ON_DEMAND, SPOT, RESERVED, FLEX_START = "on-demand", "spot", "reserved", "flex-start"
STABLE, ALPHA = "v2", "v2alpha1"


@dataclass(frozen=True)
class SliceRequest:
    """What is asked for.

    Attributes:
      name: of the queued resource and of its node.
      project: the project's id.
      zone: such as "us-central1-a".
      accelerator_type: such as "v5p-64".
      runtime_version: the machines' image.
      provisioning: "on-demand", "spot", "reserved" or "flex-start".
      reservation: a reservation's name, or projects/…/reservations/…; "" for any of the project's.
      network: a network of Compute Engine.
      subnetwork: a subnetwork; "" for the network's own in that region.
      internal_ips: whether the machines get no external addresses.
      service_account: the e-mail address of the machines' account; "" for Compute Engine's default one.
      boot_disk_gb: the boot disk's size; 0 for the image's own.
      valid_until_seconds: how long the request may wait before the service drops it; 0 for ever.
      max_run_seconds: after how long the service itself ends the machines; 0 for never (flex-start only).
      metadata: what the machines' metadata server tells them.
    """

    name: str
    project: str
    zone: str
    accelerator_type: str
    runtime_version: str
    provisioning: str = ON_DEMAND
    reservation: str = ""
    network: str = "default"
    subnetwork: str = ""
    internal_ips: bool = False
    service_account: str = ""
    boot_disk_gb: int = 0
    valid_until_seconds: int = 0
    max_run_seconds: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The version of the API that has all that is asked for."""
        alpha = self.provisioning == FLEX_START or self.reservation or self.boot_disk_gb
        return ALPHA if alpha else STABLE

    @property
    def parent(self) -> str:
        """The resource name of the place."""
        return f"projects/{self.project}/locations/{self.zone}"

    @property
    def reservation_name(self) -> str:
        """The resource name of the reservation; "" where none is used, "…/-" for any of the project's."""
        if self.reservation:
            full = "/" in self.reservation
            return self.reservation if full else f"{self.parent}/reservations/{self.reservation}"
        return f"{self.parent}/reservations/-" if self.provisioning == RESERVED else ""

    def body(self) -> dict[str, Any]:
        """Returns the `QueuedResource` that is sent."""
        network = {"network": self.network, "enableExternalIps": not self.internal_ips}
        if self.subnetwork:
            network["subnetwork"] = self.subnetwork
        node: dict[str, Any] = {
            "acceleratorType": self.accelerator_type,
            "runtimeVersion": self.runtime_version,
            "metadata": dict(self.metadata),
            "networkConfig": network,
            "serviceAccount": {"email": self.service_account} if self.service_account else {},
        }
        if self.boot_disk_gb:
            node["bootDiskConfig"] = {"diskSizeGb": str(self.boot_disk_gb)}
        body: dict[str, Any] = {"tpu": {"nodeSpec": [{"parent": self.parent, "nodeId": self.name, "node": node}]}}
        if self.valid_until_seconds:
            body["queueingPolicy"] = {"validUntilDuration": f"{self.valid_until_seconds}s"}
        if self.provisioning == SPOT:
            body["spot"] = {}
        if self.reservation_name:
            body["reservationName"] = self.reservation_name
        if self.version == ALPHA:
            models = {FLEX_START: "FLEX_START", SPOT: "SPOT"}
            body["provisioningModel"] = models.get(self.provisioning, "STANDARD")
        if self.max_run_seconds:
            body["runDuration"] = {"maxRunDuration": f"{self.max_run_seconds}s"}
        return body


@dataclass(frozen=True)
class Problem:
    """Why something failed: a `google.rpc.Status`."""

    code: int
    message: str


@dataclass(frozen=True)
class QueuedResource:
    """A request for a slice, as the service has it.

    Attributes:
      name: without project and zone.
      state: a value of QueuedResourceState.State; "STATE_UNSPECIFIED" where the service says none.
      initiator: "USER" or "SERVICE", who brought it into this state; "" where the service does not say.
      problem: why it failed; None where the service does not say.
      node: the id of its node.
      accelerator_type: of the node.
      metadata: of the node, as asked for.
    """

    name: str
    state: str
    initiator: str = ""
    problem: Problem | None = None
    node: str = ""
    accelerator_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Node:
    """The machines of a slice.

    Attributes:
      name: without project and zone.
      state: a value of Node.State; "STATE_UNSPECIFIED" where the service says none.
      health: a value of Node.Health, or "".
      health_description: why it is not healthy.
      workers: how many machines it has.
      accelerator_type: such as "v5p-64".
      symptoms: what the service saw go wrong, in one line; "" for nothing.
    """

    name: str
    state: str
    health: str = ""
    health_description: str = ""
    workers: int = 0
    accelerator_type: str = ""
    symptoms: str = ""


class Service:
    """Cloud TPU in one zone of one project."""

    def __init__(self, credentials: Credentials, project: str, zone: str, endpoints: Endpoints | None = None):
        """Makes a client.

        Args:
          credentials: for the tokens.
          project: the project's id.
          zone: such as "us-central1-a".
          endpoints: where the service is; from the environment when not given.
        """
        self._credentials = credentials
        self._base = (endpoints or find_endpoints()).tpu
        self.parent = f"projects/{project}/locations/{zone}"

    def create(self, wish: SliceRequest) -> Problem | None:
        """Asks for a slice. Twice does no harm: a name is given once.

        Returns:
          Why the service will not do it, if it says so at once.

        Raises:
          ApiError: refused, with status ALREADY_EXISTS where there is one of that name.
        """
        name = urllib.parse.quote(wish.name, safe="")
        url = self._url(wish.version, f"{wish.parent}/queuedResources?queuedResourceId={name}")
        return _problem(self._call("POST", url, wish.body()).get("error"))

    def queued_resource(self, name: str, version: str = STABLE) -> QueuedResource | None:
        """Returns the queued resource, or None when there is none."""
        answer = self._get(f"{self.parent}/queuedResources/{name}", version)
        return None if answer is None else _queued_resource(answer)

    def node(self, name: str, version: str = STABLE) -> Node | None:
        """Returns the node, or None when there is none."""
        answer = self._get(f"{self.parent}/nodes/{name}", version)
        return None if answer is None else _node(answer)

    def delete_queued_resource(self, name: str, version: str = STABLE) -> bool:
        """Has the service delete a queued resource with its nodes, which takes minutes.

        Returns:
          Whether there was one.
        """
        return self._delete(f"{self.parent}/queuedResources/{name}?force=true", version)

    def delete_node(self, name: str, version: str = STABLE) -> bool:
        """Has the service delete a node that belongs to no queued resource any more. Returns whether there was one."""
        return self._delete(f"{self.parent}/nodes/{name}", version)

    def has_accelerator_type(self, name: str) -> bool:
        """Returns whether the zone has machines of that type."""
        return self._get(f"{self.parent}/acceleratorTypes/{name}", STABLE) is not None

    def simulate_maintenance(self, name: str, workers: tuple[int, ...]) -> None:
        """Has the service act as if it took machines back; the first one where none is named."""
        url = self._url(ALPHA, f"{self.parent}/nodes/{name}:simulateMaintenanceEvent")
        self._call("POST", url, {"workerIds": [str(worker) for worker in workers]} if workers else {})

    def _url(self, version: str, path: str) -> str:
        return f"{self._base}{version}/{path}"

    def _get(self, path: str, version: str) -> dict[str, Any] | None:
        try:
            return self._call("GET", self._url(version, path))
        except http.ApiError as error:
            if error.http_status == 404:
                return None
            raise

    def _delete(self, path: str, version: str) -> bool:
        try:
            self._call("DELETE", self._url(version, path))
        except http.ApiError as error:
            if error.http_status == 404:
                return False
            raise
        return True

    def _call(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = authorized(self._credentials, method, url, body=body).json()
        return answer if isinstance(answer, dict) else {}


def _problem(status: Any) -> Problem | None:
    if not isinstance(status, dict) or not status:
        return None
    return Problem(int(status.get("code") or 0), " ".join(str(status.get("message") or "").split()))


def _queued_resource(answer: Mapping[str, Any]) -> QueuedResource:
    state = answer.get("state") or {}
    specs = (answer.get("tpu") or {}).get("nodeSpec") or [{}]
    node = specs[0].get("node") or {}
    initiator = str(state.get("stateInitiator") or "")
    return QueuedResource(
        name=_last(answer.get("name")),
        state=str(state.get("state") or "STATE_UNSPECIFIED"),
        initiator="" if initiator == "STATE_INITIATOR_UNSPECIFIED" else initiator,
        problem=_problem((state.get("failedData") or {}).get("error")),
        node=str(specs[0].get("nodeId") or ""),
        accelerator_type=_last(node.get("acceleratorType")),
        metadata=dict(node.get("metadata") or {}),
    )


def _node(answer: Mapping[str, Any]) -> Node:
    symptoms = answer.get("symptoms") or []
    words = [f"{s.get('symptomType', '')} {s.get('details', '')} (worker {s.get('workerId', '?')})" for s in symptoms]
    return Node(
        name=_last(answer.get("name")),
        state=str(answer.get("state") or "STATE_UNSPECIFIED"),
        health=str(answer.get("health") or ""),
        health_description=" ".join(str(answer.get("healthDescription") or "").split()),
        workers=len(answer.get("networkEndpoints") or []),
        accelerator_type=_last(answer.get("acceleratorType")),
        symptoms="; ".join(" ".join(word.split()) for word in words),
    )


def _last(name: Any) -> str:
    return str(name or "").rsplit("/", 1)[-1]
