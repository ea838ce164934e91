"""Gives the slice back from within: deletes this machine's own queued resource.

Owns whether a queued resource is this machine's: it is when its node carries this incarnation in its metadata, so a slice of
the same name that was asked for later is never touched. And when a machine does so by itself, without the job's keeper: when
another slice may run the job, or the keeper has fallen silent. The machine ends with its slice, minutes later.
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


class OwnSlice:
    """What one machine knows of its slice, and when it gives it back.

    Args:
      surrender: deletes it.
      note: the file that keeps its queued resource's name for the day when the bucket does not say it any more.
      keeps: whether this is worker 0. It comes first; the others are there for the day when it is gone.
      clock: for the patience.
    """

    def __init__(self, surrender: Surrender, note: Path, keeps: bool, clock: Clock):
        self._surrender, self._note, self._keeps, self._clock = surrender, note, keeps, clock
        self._name = note.read_text() if note.exists() else ""
        self._bounds, self._idle_seconds = Bounds(), Control.idle_seconds
        self._denied_since: float | None = None
        self._silence = Silence(clock)

    def confirm(self, wanted: Control) -> None:
        """Notes that this slice is the one that may run the job."""
        self._denied_since = None
        self._bounds, self._idle_seconds = wanted.bounds, wanted.idle_seconds
        if wanted.queued_resource != self._name:
            self._name = wanted.queued_resource
            self._note.write_text(self._name)

    def deny(self, wanted: Control | None) -> str:
        """Notes that it is not, and gives it back if that stays so; returns what there is to say."""
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
        """Gives it back when the job's keeper has been silent for too long; returns what there is to say, "" for nothing.

        Args:
          wanted: what is wanted.
          job: the job's state, as the keeper wrote it last.
          running: whether a trainer runs on this machine.
        """
        updated = job.updated if job is not None else 0.0
        silent = self._silence.look({"keeper": updated}, POLLS * wanted.bounds.poll_seconds)["keeper"]
        if self._keeps or not is_forsaken(wanted, self._clock.now(), silent, running):
            return ""
        self._surrender.attempt(wanted.queued_resource, wanted.bounds.heartbeat_seconds)
        return self._surrender.message
