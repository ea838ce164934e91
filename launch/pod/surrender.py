"""Gives the slice back from within: deletes this machine's own queued resource.

Owns one decision only: whether a queued resource is this machine's. It is when its node carries this incarnation in its
metadata, so a slice of the same name that was asked for later is never touched. The machine ends with it, minutes later.
"""

from __future__ import annotations

import re

from pod.clock import Clock
from pod.credentials import Credentials, CredentialsError
from pod.endpoints import Endpoints
from pod.http import ApiError
from pod.service import ALPHA, STABLE, Service

_PAUSE_SECONDS = 60.0
_NAME = re.compile(r"projects/([^/]+)/locations/([^/]+)/queuedResources/([^/]+)")


class Surrender:
    """Deletes the slice of one incarnation; may be asked again and again.

    Attributes:
      message: what came of it, for people.
    """

    def __init__(self, incarnation: str, credentials: Credentials, endpoints: Endpoints, clock: Clock):
        self._incarnation, self._credentials, self._endpoints = incarnation, credentials, endpoints
        self._clock, self._next = clock, 0.0
        self.message = ""

    def attempt(self, queued_resource: str, pause: float = _PAUSE_SECONDS) -> None:
        """Asks the service to delete the slice, unless it was asked a moment ago.

        Args:
          queued_resource: "projects/P/locations/Z/queuedResources/N".
          pause: seconds between two requests, a minute at most.
        """
        if self._clock.monotonic() < self._next:
            return
        self._next = self._clock.monotonic() + min(pause, _PAUSE_SECONDS)
        try:
            self.message = self._delete(queued_resource)
        except ApiError as error:
            self.message = f"cannot delete the slice, which is billed: {error}"
            if error.http_status == 403:
                self.message += (
                    "; its service account needs roles/tpu.admin for that: end it with launch/tpu_pod.sh down"
                )
        except CredentialsError as error:
            self.message = f"cannot delete the slice, which is billed: {error}"

    def _delete(self, queued_resource: str) -> str:
        match = _NAME.fullmatch(queued_resource)
        if match is None:
            return f"cannot delete the slice, which is billed: {queued_resource!r} is no queued resource"
        project, zone, name = match.groups()
        service = Service(self._credentials, project, zone, self._endpoints)
        version = STABLE
        found = service.queued_resource(name, version)
        if found is None:
            version = ALPHA
            found = service.queued_resource(name, version)
        if found is None:
            return "the slice is being deleted"
        if found.metadata.get("pod-incarnation") != self._incarnation:
            return f"not deleted: the queued resource {name} is that of a later slice"
        if found.state != "DELETING":
            service.delete_queued_resource(name, version)
        return "the slice is being deleted"
