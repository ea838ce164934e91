"""Checks whether the machines' account may use the run's bucket and delete its own slice.

It reads the policies of the project and of the bucket. Rights from a folder, an organization, a group or a custom role are
not visible there, so they are never reported as missing.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

from pod.services.credentials import Credentials, authorized
from pod.services.endpoints import Endpoints

_ALL = ("roles/owner", "roles/editor")
DELETE_ROLES = (*_ALL, "roles/tpu.admin")
STORE_ROLES = (*_ALL, "roles/storage.admin", "roles/storage.objectAdmin", "roles/storage.objectUser")
YES, NO, UNKNOWN = "yes", "no", "unknown"


def default_account(number: str) -> str:
    """Returns the e-mail address of Compute Engine's default service account in a project of that number."""
    return f"{number}-compute@developer.gserviceaccount.com"


def holds(policies: Iterable[Mapping[str, Any]], account: str, roles: Iterable[str]) -> str:
    """Returns whether policies give a service account one of the roles: YES, NO, or UNKNOWN.

    Args:
      policies: the policies of the resources on which a role counts.
      account: the service account's e-mail address.
      roles: the roles, any of which is enough.
    """
    member, wanted, unclear = f"serviceAccount:{account}", set(roles), False
    for policy in policies:
        for binding in policy.get("bindings", []):
            role, members = str(binding.get("role", "")), [str(name) for name in binding.get("members", [])]
            if role in wanted and member in members and not binding.get("condition"):
                return YES
            own_role = not role.startswith("roles/")
            reaches = any(name == member or name.startswith(("group:", "domain:", "all")) for name in members)
            unclear = unclear or (reaches and (role in wanted or own_role))
    return UNKNOWN if unclear else NO


class Policies:
    """The policies of a project and its buckets."""

    def __init__(self, credentials: Credentials, endpoints: Endpoints):
        self._credentials, self._endpoints = credentials, endpoints

    def project_number(self, project: str) -> str:
        """Returns a project's number; raises ApiError."""
        return str(self._call("GET", f"{self._endpoints.resources}v1/projects/{project}").get("projectNumber", ""))

    def of_project(self, project: str) -> dict[str, Any]:
        """Returns a project's policy; raises ApiError."""
        url = f"{self._endpoints.resources}v1/projects/{project}:getIamPolicy"
        return self._call("POST", url, {"options": {"requestedPolicyVersion": 3}})

    def of_bucket(self, bucket: str) -> dict[str, Any]:
        """Returns a bucket's policy; raises ApiError."""
        name = urllib.parse.quote(bucket, safe="")
        return self._call("GET", f"{self._endpoints.storage}storage/v1/b/{name}/iam?optionsRequestedPolicyVersion=3")

    def _call(self, method: str, url: str, body: Any = None) -> dict[str, Any]:
        return authorized(self._credentials, method, url, body=body).json()
