"""The Cloud TPU API over REST: queued resources and their nodes.

The API is v2, and v2alpha1 for what only that has. A request has exactly the form of the `gcloud compute tpus …` command that
`gcloud.py` prints; the tests compare them. Fields and enumerations are those of the REST reference. Errors are
`http.ApiError`, in the service's words, and `credentials.CredentialsError`. Nothing is retried here.
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
    """The requested slice.

    Attributes:
      name: the name of the queued resource and of its node.
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
      max_run_seconds: the time after which the service itself ends the machines; 0 for never (flex-start only).
      metadata: the entries of the machines' metadata server.
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
        """The version of the API that supports the request."""
        alpha = self.provisioning == FLEX_START or self.reservation or self.boot_disk_gb
        return ALPHA if alpha else STABLE

    @property
    def parent(self) -> str:
        """The resource name of the location."""
        return f"projects/{self.project}/locations/{self.zone}"

    @property
    def reservation_name(self) -> str:
        """The resource name of the reservation; "" without one, "…/-" for any of the project's."""
        if self.reservation:
            full = "/" in self.reservation
            return self.reservation if full else f"{self.parent}/reservations/{self.reservation}"
        return f"{self.parent}/reservations/-" if self.provisioning == RESERVED else ""

    def body(self) -> dict[str, Any]:
        """Returns the `QueuedResource` to send."""
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
    """The reason of a failure: a `google.rpc.Status`."""

    code: int
    message: str


@dataclass(frozen=True)
class QueuedResource:
    """A request for a slice, as the service describes it.

    Attributes:
      name: the name without project and zone.
      state: a value of QueuedResourceState.State; "STATE_UNSPECIFIED" if there is none.
      initiator: "USER" or "SERVICE", whichever caused the state; "" if unknown.
      problem: the reason of a failure, or None.
      node: the id of its node.
      accelerator_type: the node's type.
      metadata: the requested metadata of the node.
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
      name: the name without project and zone.
      state: a value of Node.State; "STATE_UNSPECIFIED" if there is none.
      health: a value of Node.Health, or "".
      health_description: why it is not healthy.
      workers: the number of its machines.
      accelerator_type: such as "v5p-64".
      symptoms: the faults that the service reports, in one line; "" for none.
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
        """Creates a client.

        Args:
          credentials: the source of tokens.
          project: the project's id.
          zone: such as "us-central1-a".
          endpoints: the services' URLs; by default from the environment.
        """
        self._credentials = credentials
        self._base = (endpoints or find_endpoints()).tpu
        self.parent = f"projects/{project}/locations/{zone}"

    def create(self, request: SliceRequest) -> Problem | None:
        """Requests a slice. Repeating the request does no harm, because a name is unique.

        Returns:
          The reason of a refusal, if the service refuses at once.

        Raises:
          ApiError: the request is refused, with status ALREADY_EXISTS if the name is taken.
        """
        name = urllib.parse.quote(request.name, safe="")
        url = self._url(request.version, f"{request.parent}/queuedResources?queuedResourceId={name}")
        return _problem(self._call("POST", url, request.body()).get("error"))

    def queued_resource(self, name: str, version: str = STABLE) -> QueuedResource | None:
        """Returns the queued resource, or None."""
        answer = self._get(f"{self.parent}/queuedResources/{name}", version)
        return None if answer is None else _queued_resource(answer)

    def node(self, name: str, version: str = STABLE) -> Node | None:
        """Returns the node, or None."""
        answer = self._get(f"{self.parent}/nodes/{name}", version)
        return None if answer is None else _node(answer)

    def delete_queued_resource(self, name: str, version: str = STABLE) -> bool:
        """Requests the deletion of a queued resource with its nodes, which takes minutes.

        Returns:
          Whether there was one.
        """
        return self._delete(f"{self.parent}/queuedResources/{name}?force=true", version)

    def delete_node(self, name: str, version: str = STABLE) -> bool:
        """Requests the deletion of a node without a queued resource. Returns whether there was one."""
        return self._delete(f"{self.parent}/nodes/{name}", version)

    def has_accelerator_type(self, name: str) -> bool:
        """Returns whether the zone has the type."""
        return self._get(f"{self.parent}/acceleratorTypes/{name}", STABLE) is not None

    def simulate_maintenance(self, name: str, workers: tuple[int, ...]) -> None:
        """Makes the service act as if it preempted machines; by default the first one."""
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
