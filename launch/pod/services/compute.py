"""Creates, finds and deletes a small virtual machine of Compute Engine over REST.

The requests have the form of `gcloud compute instances create`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pod.services.credentials import Credentials, authorized
from pod.services.endpoints import Endpoints
from pod.services.http import ApiError

MACHINE_TYPE = "e2-small"
IMAGE_PROJECT, IMAGE_FAMILY = "debian-cloud", "debian-12"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


@dataclass(frozen=True)
class MachineRequest:
    """The requested machine.

    Attributes:
      name: the machine's name.
      project: the project's id.
      zone: such as "us-central1-a".
      network: a network of Compute Engine.
      subnetwork: "" for the network's own in that region.
      internal_ips: whether the machine gets no external address.
      service_account: its account; "" for Compute Engine's default one.
      max_run_seconds: the time after which the service itself deletes the machine.
      metadata: the entries of its metadata server.
    """

    name: str
    project: str
    zone: str
    network: str = "default"
    subnetwork: str = ""
    internal_ips: bool = False
    service_account: str = ""
    max_run_seconds: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)

    def body(self, base: str) -> dict[str, Any]:
        """Returns the `Instance` to send.

        Args:
          base: the API's URL up to "compute/v1/".
        """
        api = f"{base}compute/v1/projects"
        place = f"{api}/{self.project}"
        interface: dict[str, Any] = {"network": f"{place}/global/networks/{self.network}"}
        if self.subnetwork:
            region = self.zone.rpartition("-")[0]
            interface["subnetwork"] = f"{place}/regions/{region}/subnetworks/{self.subnetwork}"
        if not self.internal_ips:
            interface["accessConfigs"] = [{"name": "external-nat", "type": "ONE_TO_ONE_NAT"}]
        image = f"{api}/{IMAGE_PROJECT}/zones/-/imageFamilyViews/{IMAGE_FAMILY}"
        scheduling: dict[str, Any] = {"automaticRestart": True}
        if self.max_run_seconds:
            scheduling["maxRunDuration"] = {"seconds": str(self.max_run_seconds)}
            scheduling["instanceTerminationAction"] = "DELETE"
        return {
            "name": self.name,
            "machineType": f"{place}/zones/{self.zone}/machineTypes/{MACHINE_TYPE}",
            "canIpForward": False,
            "deletionProtection": False,
            "disks": [
                {
                    "autoDelete": True,
                    "boot": True,
                    "initializeParams": {"sourceImage": image},
                    "mode": "READ_WRITE",
                    "type": "PERSISTENT",
                }
            ],
            "metadata": {"items": [{"key": key, "value": value} for key, value in self.metadata.items()]},
            "networkInterfaces": [interface],
            "scheduling": scheduling,
            "serviceAccounts": [{"email": self.service_account or "default", "scopes": [SCOPE]}],
        }


class Compute:
    """Compute Engine in one zone of one project."""

    def __init__(self, credentials: Credentials, project: str, zone: str, endpoints: Endpoints):
        self._credentials, self._base = credentials, endpoints.compute
        self._machines = f"{endpoints.compute}compute/v1/projects/{project}/zones/{zone}/instances"

    def create(self, request: MachineRequest) -> None:
        """Creates a machine.

        Raises:
          ApiError: the request is refused, with HTTP status 409 if the name is taken.
        """
        authorized(self._credentials, "POST", self._machines, body=request.body(self._base))

    def exists(self, name: str) -> bool:
        """Returns whether there is a machine of that name."""
        try:
            authorized(self._credentials, "GET", f"{self._machines}/{name}")
        except ApiError as error:
            if error.http_status == 404:
                return False
            raise
        return True

    def delete(self, name: str) -> bool:
        """Requests the deletion of a machine, which takes a minute. Returns whether there was one."""
        try:
            authorized(self._credentials, "DELETE", f"{self._machines}/{name}")
        except ApiError as error:
            if error.http_status == 404:
                return False
            raise
        return True
