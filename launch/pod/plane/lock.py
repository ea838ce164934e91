"""The lock that allows one supervisor for a run, wherever it is: the object `lock.json`, which names it.

A lock that was not renewed for six times `lock_seconds` is free. A supervisor that finds another name in the object, or no
object, lets go of everything and changes nothing. All writes carry the generation that was read. Taking the lock never waits.
A laptop's monotonic clock stands still while it sleeps, so a renewal is due by either clock.
"""

from __future__ import annotations

import json
from typing import Any

from pod.clock import Clock
from pod.errors import Refused
from pod.services.bucket import ABSENT, Bucket, Conflict
from pod.services.credentials import CredentialsError
from pod.services.http import ApiError

NAME = "lock.json"
_RENEWALS = 6


class Lost(Exception):
    """Another supervisor has taken over; the message names it."""


class RunLock:
    """The lock of one run.

    Args:
      bucket: the bucket of the control plane.
      folder: the control plane's folder in it.
      owner: the name of this machine and the record on it, so that a killed supervisor can be replaced at once.
      lock_seconds: the time between two renewals.
      clock: the clock of the heartbeat.
    """

    def __init__(self, bucket: Bucket, folder: str, owner: str, lock_seconds: float, clock: Clock | None = None):
        self._bucket, self._name = bucket, f"{folder}/{NAME}"
        self._owner, self._seconds = owner, lock_seconds
        self._clock = clock or Clock()
        self._renewed = self._renewed_at = 0.0
        self.held = False

    def take(self, force: bool = False) -> None:
        """Takes the lock.

        Args:
          force: whether to take it from a live supervisor.

        Raises:
          Refused: another supervisor has the lock.
          ApiError: the object cannot be read or written.
        """
        first = ""
        while True:
            found = self._bucket.read(self._name)
            if found is not None:
                content = _read(found[0])
                owner, seen = str(content.get("owner", "")), float(content.get("seen", 0))
                age = self._clock.now() - seen
                if owner != self._owner and not force and age < _RENEWALS * self._seconds:
                    words = f"this run is supervised from {_machine(owner)} (seen {max(age, 0):.0f} s ago)"
                    raise Refused(f"{words}: stop that one, or take over with --force")
                if owner != (first or owner):
                    raise Refused("this run was locked by another supervisor just now: start again to see which")
                first = owner
            try:
                self._write(ABSENT if found is None else found[1])
            except Conflict:  # the holder renewed it meanwhile, or another took it
                continue
            self.held = True
            return

    def keep(self, now: bool = False) -> None:
        """Renews the lock if that is due, or `now`.

        Raises:
          Lost: another supervisor has the lock, or had it and ended.
        """
        if not self.held or not (now or self._is_due()):
            return
        try:
            found = self._bucket.read(self._name)
            if found is None:  # only a supervisor that took over deletes it, as `down` on another machine does
                self.held = False
                raise Lost("another supervisor, or `down` on another machine, has taken over and ended")
            owner = str(_read(found[0]).get("owner", ""))
            if owner != self._owner:
                self.held = False
                raise Lost(f"another supervisor, on {_machine(owner)}, has taken over")
            self._write(found[1])
        except (Conflict, ApiError):
            return  # try again next time; the others see the same failure and wait

    def release(self) -> None:
        """Deletes the lock if it is still this supervisor's."""
        if not self.held:
            return
        self.held = False
        try:
            found = self._bucket.read(self._name)
            if found is not None and _read(found[0]).get("owner") == self._owner:
                self._bucket.delete(self._name, if_generation=found[1])
        except (Conflict, ApiError, CredentialsError):  # it expires by itself
            return

    def _is_due(self) -> bool:
        passed = self._clock.monotonic() - self._renewed, abs(self._clock.now() - self._renewed_at)
        return max(passed) >= self._seconds

    def _write(self, generation: int) -> None:
        content = json.dumps({"owner": self._owner, "seen": self._clock.now()}).encode()
        self._bucket.write(self._name, content, if_generation=generation, content_type="application/json")
        self._renewed, self._renewed_at = self._clock.monotonic(), self._clock.now()


def _read(content: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _machine(owner: str) -> str:
    return owner.split(":")[0] or "an unknown machine"
