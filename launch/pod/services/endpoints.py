"""The base URLs of the services, each ending in "/".

gcloud's own variables override them (`CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU`, …), so launcher and gcloud always use the same
service. `GCE_METADATA_HOST`, the variable of Google's client libraries, names the metadata server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Endpoints:
    """Base URLs.

    Attributes:
      tpu: Cloud TPU, without the version ("v2/…" follows).
      compute: Compute Engine, without "compute/v1/".
      storage: Cloud Storage, without "storage/v1/" (uploads are below "upload/storage/v1/").
      resources: Cloud Resource Manager, which has the policies of projects.
      secrets: Secret Manager.
      metadata: the metadata server of a machine in Google's cloud, with its version.
    """

    tpu: str
    compute: str
    storage: str
    resources: str
    secrets: str
    metadata: str


def find_endpoints(environment: Mapping[str, str] = os.environ) -> Endpoints:
    """Returns the URLs that the environment names, else Google's."""
    host = environment.get("GCE_METADATA_HOST") or "metadata.google.internal"
    return Endpoints(
        tpu=_base(environment, "TPU", "https://tpu.googleapis.com/"),
        compute=_base(environment, "COMPUTE", "https://compute.googleapis.com/", "compute/v1/"),
        storage=_base(environment, "STORAGE", "https://storage.googleapis.com/", "storage/v1/"),
        resources=_base(environment, "CLOUDRESOURCEMANAGER", "https://cloudresourcemanager.googleapis.com/"),
        secrets=_base(environment, "SECRETMANAGER", "https://secretmanager.googleapis.com/"),
        metadata=f"http://{host}/computeMetadata/v1/",
    )


def _base(environment: Mapping[str, str], service: str, default: str, path: str = "") -> str:
    """Returns a base URL without the API's path, which some of gcloud's overrides include."""
    url = environment.get(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}") or default
    url = url if url.endswith("/") else url + "/"
    return url[: -len(path)] if path and url.endswith("/" + path) else url
