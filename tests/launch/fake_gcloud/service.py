"""The state of the service: queued resources, the TPU VMs in them, and buckets, in one folder.

Owns `state.json`, `scenario.json` and the buckets' folders below the service's folder. Every change is made under one
lock, so that calls may come from several supervisors at once.
"""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

from fake_gcloud import machines


class ServiceError(Exception):
    """What gcloud prints after "ERROR: (command) " and exits with 1."""


class Service:
    """The service in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.scenario: dict = {}
        self.state: dict = {}

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Holds the lock while state and scenario are read, changed and written."""
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.scenario = json.loads((self.folder / "scenario.json").read_text())
            path = self.folder / "state.json"
            self.state = json.loads(path.read_text()) if path.exists() else {"requests": {}, "created": 0}
            try:
                yield
            finally:
                for name, content in (("scenario.json", self.scenario), ("state.json", self.state)):
                    (self.folder / f"{name}.partial").write_text(json.dumps(content, indent=1))
                    (self.folder / f"{name}.partial").rename(self.folder / name)

    def create(self, name: str, accelerator_type: str, node: str, flags: dict[str, str]) -> None:
        """Queues a request for a slice."""
        if name in self.state["requests"]:
            raise ServiceError(f"ALREADY_EXISTS: Resource 'queuedResources/{name}' already exists")
        if accelerator_type not in self.scenario["types"]:
            raise ServiceError(f"INVALID_ARGUMENT: Accelerator type {accelerator_type} is not available")
        lifecycles = self.scenario["lifecycles"]
        number = self.state["created"]
        self.state["created"] += 1
        self.state["requests"][name] = {
            "number": number,
            "coming": list(lifecycles[min(number, len(lifecycles) - 1)]),
            "state": "CREATING",
            "node": node,
            "node_coming": list(self.scenario["node_states"]),
            "node_state": None,
            "type": accelerator_type,
            "workers": self.scenario["types"][accelerator_type],
            "flags": flags,
        }

    def request(self, name: str) -> dict:
        """Returns a queued resource after moving it on by one look."""
        request = self._find(name)
        if request["coming"]:
            request["state"] = request["coming"].pop(0)
        if request["state"] == "ACTIVE" and request["node_state"] is None:
            request["node_state"] = "CREATING"
            machines.create(self.folder, request["node"], request["number"], request["workers"])
        return request

    def node(self, name: str) -> dict:
        """Returns the request whose TPU VM is called `name`, after moving the VM on by one look."""
        for request in self.state["requests"].values():
            if request["node"] == name and request["node_state"] not in (None, "GONE"):
                if request["node_coming"]:
                    request["node_state"] = request["node_coming"].pop(0)
                return request
        raise ServiceError(f"NOT_FOUND: Resource 'nodes/{name}' was not found")

    def delete(self, name: str, force: bool) -> None:
        """Deletes a queued resource with its machines."""
        request = self._find(name)
        if request["state"] not in ("SUSPENDED", "FAILED", "WAITING_FOR_RESOURCES", "ACCEPTED") and not force:
            raise ServiceError(f"FAILED_PRECONDITION: the queued resource is {request['state']}; use --force")
        machines.destroy(self.folder, request["node"])
        del self.state["requests"][name]

    def preempt(self, name: str, node_state: str = "PREEMPTED") -> None:
        """Takes the machines back: their processes end at once and their disks are gone."""
        request = self._find(name)
        machines.destroy(self.folder, request["node"])
        coming = list(self.scenario["after_preemption"])
        request.update(state="ACTIVE", coming=coming, node_state=node_state, node_coming=[])

    def bucket_path(self, url: str) -> Path:
        """Returns where gs://bucket/object lies on this machine."""
        bucket, _, key = url.removeprefix("gs://").partition("/")
        if bucket not in self.scenario["buckets"]:
            raise ServiceError(f"gs://{bucket} not found: 404.")
        return self.folder / "buckets" / bucket / key

    def generation(self, path: Path) -> int:
        """The generation of an object that lies at `path`: it grows with each write; 0 where there is no object."""
        return self.state.get("generations", {}).get(str(path), 0) if path.exists() else 0

    def written(self, path: Path) -> None:
        """Gives the object at `path` a new generation."""
        number = self.state["writes"] = self.state.get("writes", 0) + 1
        self.state.setdefault("generations", {})[str(path)] = number

    def _find(self, name: str) -> dict:
        if name not in self.state["requests"]:
            raise ServiceError(f"NOT_FOUND: Resource 'queuedResources/{name}' was not found")
        return self.state["requests"][name]
