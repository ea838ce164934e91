"""Gives the slice back from within, by deleting this machine's own queued resource.

A queued resource is this machine's if its node has this incarnation in its metadata, so a later slice of the same name is
never touched. A machine acts without the job's keeper if another slice may run the job, or if the keeper has fallen silent.
The machine ends with its slice, minutes later.
"""

from __future__ import annotations

import re
from pathlib import Path

from pod.clock import Clock
from pod.job.job_decisions import is_forsaken
from pod.job.silence import POLLS, Silence
from pod.plane.control import Bounds, Control, JobState
from pod.services.credentials import Credentials, CredentialsError
from pod.services.endpoints import Endpoints
from pod.services.http import ApiError
from pod.services.service import ALPHA, STABLE, Service

_PAUSE_SECONDS = 60.0
_NAME = re.compile(r"projects/([^/]+)/locations/([^/]+)/queuedResources/([^/]+)")


class Surrender:
    """Deletes the slice of one incarnation; requests may be repeated.

    Attributes:
      message: the result, as text.
    """

    def __init__(self, incarnation: str, credentials: Credentials, endpoints: Endpoints, clock: Clock):
        self._incarnation, self._credentials, self._endpoints = incarnation, credentials, endpoints
        self._clock, self._next = clock, 0.0
        self.message = ""

    def attempt(self, queued_resource: str, pause: float = _PAUSE_SECONDS) -> None:
        """Requests the deletion of the slice, unless that was done a moment ago.

        Args:
          queued_resource: "projects/P/locations/Z/queuedResources/N".
          pause: seconds between two requests, at most a minute.
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
            return f"cannot delete the slice, which is billed: {queued_resource!r} is not a queued resource"
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


class OwnSlice:
    """Decides when one machine gives its slice back.

    Args:
      surrender: deletes the slice.
      note: the file with the name of the queued resource, in case the bucket no longer has it.
      keeps: whether this is worker 0. It acts first; the other workers act if it is gone.
      clock: the clock of the pauses.
    """

    def __init__(self, surrender: Surrender, note: Path, keeps: bool, clock: Clock):
        self._surrender, self._note, self._keeps, self._clock = surrender, note, keeps, clock
        self._name = note.read_text() if note.exists() else ""
        self._bounds, self._idle_seconds = Bounds(), Control.idle_seconds
        self._denied_since: float | None = None
        self._silence = Silence(clock)

    def confirm(self, wanted: Control) -> None:
        """Notes that this slice may run the job."""
        self._denied_since = None
        self._bounds, self._idle_seconds = wanted.bounds, wanted.idle_seconds
        if wanted.queued_resource != self._name:
            self._name = wanted.queued_resource
            self._note.write_text(self._name)

    def deny(self, wanted: Control | None) -> str:
        """Notes that this slice may not run the job, and gives it back if that persists; returns a message."""
        now = self._clock.monotonic()
        if self._denied_since is None:
            self._denied_since = now
        name = self._name or (wanted.queued_resource if wanted is not None else "")
        patience = self._bounds.heartbeat_seconds + (0.0 if self._keeps else self._idle_seconds)
        if name and now - self._denied_since > patience:
            self._surrender.attempt(name, self._bounds.heartbeat_seconds)
            return self._surrender.message
        return "this slice is not the one that may run the job: nothing runs here, and it will be deleted"

    def after_a_look(self, wanted: Control, job: JobState | None, running: bool) -> str:
        """Gives the slice back if the job's keeper has been silent for too long; returns a message, or "".

        Args:
          wanted: `control.json`.
          job: the keeper's last `job.json`.
          running: whether a trainer runs on this machine.
        """
        updated = job.updated if job is not None else 0.0
        silent = self._silence.look({"keeper": updated}, POLLS * wanted.bounds.poll_seconds)["keeper"]
        if self._keeps or not is_forsaken(wanted, self._clock.now(), silent, running):
            return ""
        self._surrender.attempt(wanted.queued_resource, wanted.bounds.heartbeat_seconds)
        return self._surrender.message
