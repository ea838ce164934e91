"""Reads a machine's metadata server: its identity, and notices of preemption and maintenance.

The attributes are those of a Cloud TPU VM (`agent-worker-number`) and of the launcher (`pod-control`, `pod-incarnation`,
`pod-code`). The server itself waits for changes of `instance/preempted` and `instance/maintenance-event` (`wait_for_change`),
so a notice arrives at once.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pod.clock import Clock
from pod.services.endpoints import Endpoints
from pod.services.http import ApiError, Response, request, retrying

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_QUIET = {"instance/preempted": "FALSE", "instance/maintenance-event": "NONE"}
_WAIT_SECONDS = 300
_PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class Machine:
    """One machine of a slice.

    Attributes:
      worker: its number in the slice.
      incarnation: the slice's random identifier.
      control: gs://… of the control plane.
      code: the object with the code that it was started with.
    """

    worker: int
    incarnation: str
    control: str
    code: str


def find_machine(endpoints: Endpoints, clock: Clock | None = None) -> Machine:
    """Returns this machine's description by its metadata server.

    Raises:
      ApiError: the server does not answer, or an attribute is missing.
      ValueError: a value is invalid.
    """

    words = find_attribute(endpoints, "pod-code", clock).split()  # the object and its checksum
    number = find_attribute(endpoints, "agent-worker-number", clock)
    if not re.fullmatch(r"[0-9]+", number):
        raise ValueError(f"agent-worker-number={number}: expected a number")
    incarnation = find_attribute(endpoints, "pod-incarnation", clock)
    return Machine(int(number), incarnation, find_attribute(endpoints, "pod-control", clock), words[0])


def find_attribute(endpoints: Endpoints, name: str, clock: Clock | None = None) -> str:
    """Returns an attribute of this machine; raises ApiError, with HTTP status 404 if there is none."""
    path = f"instance/attributes/{name}"
    return retrying(lambda: _get(endpoints, path), seconds=600, clock=clock).body.decode().strip()


def find_role(endpoints: Endpoints, clock: Clock | None = None) -> str:
    """Returns the role of a machine outside a slice, such as "controller"; "" on a worker."""
    try:
        return find_attribute(endpoints, "pod-role", clock)
    except ApiError as error:
        if error.http_status == 404:
            return ""
        raise


def boot_id() -> str:
    """Returns the boot id of this machine; "" if the system has none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def is_going_down() -> bool:
    """Returns whether the system is being shut down."""
    program = shutil.which("systemctl")
    if program is None:
        return False
    done = subprocess.run([program, "is-system-running"], capture_output=True, text=True, check=False)
    return done.stdout.strip() == "stopping"


class Notices:
    """The notices of the metadata server.

    Args:
      endpoints: the services' URLs.
      react: called with each notice as soon as it arrives, in a thread of its own.
    """

    def __init__(self, endpoints: Endpoints, react: Callable[[str], None]):
        self._endpoints, self._react = endpoints, react
        self._values = dict(_QUIET)

    def start(self) -> None:
        """Starts to wait for changes, until this process ends."""
        for path in _QUIET:
            threading.Thread(target=self._watch, args=(path,), name=path, daemon=True).start()

    @property
    def notice(self) -> str:
        """The current notice, such as "preempted"; "" for none."""
        if self._values["instance/preempted"] != "FALSE":
            return "preempted"
        event = self._values["instance/maintenance-event"]
        return "" if event == "NONE" else f"maintenance: {event}"

    def _watch(self, path: str) -> None:
        etag = ""
        while True:
            query = {"wait_for_change": "true", "last_etag": etag, "timeout_sec": _WAIT_SECONDS} if etag else {}
            try:
                answer = _get(self._endpoints, path, query, _WAIT_SECONDS + 30)
            except ApiError:
                etag = ""  # so that a change that was missed meanwhile is read at once
                time.sleep(_PAUSE_SECONDS)
                continue
            etag = answer.headers.get("etag", "")
            value = answer.body.decode(errors="replace").strip()
            if value and value != self._values[path]:
                self._values[path] = value
                if value != _QUIET[path]:
                    self._react(self.notice)
            if not etag:
                time.sleep(_PAUSE_SECONDS)


def _get(endpoints: Endpoints, path: str, query: Mapping[str, object] | None = None, timeout: float = 10) -> Response:
    url = endpoints.metadata + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
    return request("GET", url, headers={"Metadata-Flavor": "Google"}, timeout=timeout, proxy=False)
