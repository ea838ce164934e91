"""The metadata server of one machine: what it is, its attributes, its service account's token, and notices.

Owns one loopback server for each machine, at the address that `GCE_METADATA_HOST` gives. The paths and forms are Compute
Engine's, the attributes those of a Cloud TPU VM. Waiting for a change works as there (`wait_for_change`, `last_etag`,
`timeout_sec`).
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloud.slices import DEFAULT_ACCOUNT, PROJECT_NUMBER

PREFIX = "/computeMetadata/v1/"


class Metadata:
    """The values of one machine, as a tree of dictionaries, served until `close`."""

    def __init__(self, token: str, name: str, zone: str, attributes: dict[str, str], project: str = "project"):
        account = {
            "email": DEFAULT_ACCOUNT,
            "scopes": "https://www.googleapis.com/auth/cloud-platform\n",
            "aliases": "default\n",
            "token": {"access_token": token, "expires_in": 3599, "token_type": "Bearer"},
        }
        self.values = {
            "instance": {
                "attributes": dict(attributes),
                "id": str(int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)),
                "name": name,
                "hostname": f"{name}.{zone}.c.{project}.internal",
                "zone": f"projects/{PROJECT_NUMBER}/zones/{zone}",
                "preempted": "FALSE",
                "maintenance-event": "NONE",
                "service-accounts": {"default": account, account["email"]: account},
                "network-interfaces": {
                    "0": {"ip": "127.0.0.1", "network": f"projects/{PROJECT_NUMBER}/networks/default"}
                },
            },
            "project": {"project-id": project, "numeric-project-id": PROJECT_NUMBER, "attributes": {}},
        }
        self.changed = threading.Condition()
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.host = f"127.0.0.1:{self._http.server_port}"
        self._closed = False
        threading.Thread(target=self._http.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        """Ends the server and lets those go that wait for a change."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()
        self._http.shutdown()
        self._http.server_close()

    def set(self, path: str, value) -> None:
        """Changes the value at a path such as "instance/preempted"."""
        with self.changed:
            *folders, name = path.split("/")
            place = self.values
            for folder in folders:
                place = place[folder]
            place[name] = value
            self.changed.notify_all()

    def find(self, path: str):
        """The value at a path; None when there is none."""
        place = self.values
        for name in filter(None, path.split("/")):
            if not isinstance(place, dict) or name not in place:
                return None
            place = place[name]
        return place

    def wait(self, path: str, etag: str, seconds: float):
        """The value at a path once its tag is not `etag`, or when the time is over."""
        end = time.monotonic() + seconds
        with self.changed:
            while not self._closed and tag(self.find(path)) == etag and (left := end - time.monotonic()) > 0:
                self.changed.wait(min(left, 3600))
            return self.find(path)


def tag(value) -> str:
    """A value's ETag."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: Metadata

    def do_GET(self) -> None:
        split = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(split.query))
        self.owner.requests.append(self.path)
        if split.path == "/":  # how client libraries find out whether they are in Google's cloud
            return self._send(200, "computeMetadata/\n", "")
        if self.headers.get("Metadata-Flavor") != "Google":
            return self._send(403, "Missing Metadata-Flavor:Google header.", "")
        path = split.path.removeprefix(PREFIX)
        value = self.owner.find(path)
        if value is not None and query.get("wait_for_change") == "true":
            etag = query.get("last_etag", tag(value))
            value = self.owner.wait(path, etag, float(query.get("timeout_sec", 3600)))
        if value is None or not split.path.startswith(PREFIX):
            return self._send(404, "Error 404 (Not Found)!!1", "")
        if isinstance(value, dict) and not (query.get("recursive") == "true" or "access_token" in value):
            text = "".join(f"{name}/\n" if isinstance(inner, dict) else f"{name}\n" for name, inner in value.items())
        elif isinstance(value, dict) or query.get("alt") == "json":
            text = json.dumps(value)
        else:
            text = value
        return self._send(200, text, tag(value))

    def _send(self, status: int, text: str, etag: str) -> None:
        body = text.encode()
        try:
            self.send_response(status)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", "application/json" if text.startswith("{") else "application/text")
            if etag:
                self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, *_) -> None:
        """Nothing."""
