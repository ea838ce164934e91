"""The loopback cloud as one thing: server, Cloud TPU, Compute, Storage and machines, for one project."""

from __future__ import annotations

import time
from pathlib import Path

from cloud.admin import Admin
from cloud.compute import Compute
from cloud.machines import Machines
from cloud.server import Server
from cloud.storage import Storage
from cloud.tpu import CloudTpu

PROJECT, ZONE, BUCKET = "project", "europe-west4-a", "bucket"
USER_TOKEN, WORKER_TOKEN = "ya29.the-user", "ya29.the-workers"


class Services:
    """All services; they end with `close`.

    Attributes:
      server: the HTTP server with its record, faults and tokens.
      tpu, compute, storage, admin: the APIs.
      machines: what runs on nodes and virtual machines.
      environment: what points gcloud, the launcher and the machines here instead of to Google.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.server = Server()
        url = self.server.url
        self.environment = {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU": f"{url}/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{url}/compute/v1/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{url}/storage/v1/",
        }
        for name in ("CLOUDRESOURCEMANAGER", "SECRETMANAGER", "CLOUDBILLING", "SERVICEUSAGE", "IAM"):
            self.environment[f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}"] = f"{url}/"
        self.server.tokens = {USER_TOKEN: "user", WORKER_TOKEN: "worker"}
        self.machines = Machines(folder / "machines", self.environment, WORKER_TOKEN, ZONE)
        self.tpu = CloudTpu(self.machines)
        self.compute = Compute(url, self.machines)
        self.admin = Admin()
        self.storage = Storage(folder, url)
        self.storage.make_bucket(BUCKET, "EUROPE-WEST4")
        self.server.handlers = [self.tpu.answer, self.compute.answer, self.storage.answer, self.admin.answer]

    def close(self) -> None:
        """Ends all services and whatever runs on machines."""
        self.tpu.close()
        self.machines.close()
        self.server.close()
        self.storage.close()


def wait_until(condition, seconds: float = 120, process=None) -> None:
    """Waits for a condition; fails when the time is over, or when `process` has ended, before it holds."""
    end = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(f"the process ended with {process.returncode}")
        if time.monotonic() > end:
            raise AssertionError("it did not happen")
        time.sleep(0.03)
