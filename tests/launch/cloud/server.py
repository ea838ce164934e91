"""One loopback HTTP server for all of Google's APIs, with a record of every call and faults on demand.

Owns sockets, tokens, the record and the faults. Knows nothing of any API: `answer` functions are given by `tpu.py`,
`compute.py` and `storage.py` and are asked in turn. Errors have the form of Google's JSON APIs.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HTTP_STATUS = {  # google.rpc.Code and the HTTP status that it is sent with
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class ApiError(Exception):
    """An answer `{"error": {"code", "message", "status", "details"}}`."""

    def __init__(self, status: str, message: str, details: list[dict] | None = None):
        super().__init__(message)
        self.status, self.message, self.details = status, message, details

    def answer(self) -> Answer:
        """The HTTP answer."""
        code = HTTP_STATUS[self.status]
        error = {"code": code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = self.details
        return Answer(code, {"error": error})


@dataclass
class Answer:
    """An HTTP answer; a `body` that is not bytes is sent as JSON."""

    status: int = 200
    body: object = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """A request as it arrived. `who` is whose token it carries; `status` and `answer` are 0 and None where none was sent."""

    who: str
    method: str
    path: str
    raw_query: str
    headers: dict[str, str]
    data: bytes
    time: float = 0
    status: int = 0
    answer: object = None

    @property
    def body(self):
        """The JSON of the request; None where there is none."""
        return json.loads(self.data) if self.data else None

    @property
    def query(self) -> dict[str, str]:
        """The query; of a name that comes more than once the last value."""
        return dict(urllib.parse.parse_qsl(self.raw_query, keep_blank_values=True))

    @property
    def line(self) -> str:
        """The request in a line, which faults and tests look for."""
        query = "&".join(f"{key}={value}" for key, value in sorted(self.query.items()) if key != "alt")
        return f"{self.who} {self.method} {self.path}" + (f"?{query}" if query else "")


@dataclass
class Fault:
    """What happens to the calls whose line the regular expression `match` finds, once `skip` of them have passed.

    Attributes:
      error: what is answered instead; an `ApiError`, or an `Answer`.
      reset: the connection is closed without an answer.
      hang: no answer comes until the fault is taken away or the client goes.
      before, after: called with the request before it is handled, or when it has been handled and not been answered.
    """

    match: str
    error: ApiError | Answer | None = None
    reset: bool = False
    hang: bool = False
    before: Callable[[Call], None] | None = None
    after: Callable[[Call], None] | None = None
    times: int = 1
    skip: int = 0
    met: int = 0
    over: threading.Event = field(default_factory=threading.Event)


class Server:
    """Serves the APIs in `handlers` on a port of 127.0.0.1 until `close`."""

    def __init__(self):
        self.handlers: list[Callable[[Call], Answer | None]] = []
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.tokens: dict[str, str] = {}  # whose token it is; one that is not here has expired
        self.open_to_all: tuple[str, ...] = ()  # beginnings of paths that need no token
        self.changed = threading.Condition()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        """Ends the service; calls that hang are let go."""
        for fault in self.faults:
            fault.over.set()
        self._http.shutdown()
        self._http.server_close()

    def seen(self, match: str) -> list[Call]:
        """The calls so far whose line `match` finds."""
        with self.changed:
            return [call for call in self.calls if re.search(match, call.line)]

    @contextlib.contextmanager
    def failing(self, match: str, **how) -> Iterator[Fault]:
        """A fault for as long as the block runs, without limit unless `times` is given."""
        fault = Fault(match, **({"times": 1_000_000} | how))
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)
            fault.over.set()

    def fault_of(self, call: Call) -> Fault | None:
        """The fault that this call meets."""
        with self.changed:
            for fault in self.faults:
                if re.search(fault.match, call.line):
                    if fault.skip > 0:
                        fault.skip -= 1
                    elif fault.met < fault.times:
                        fault.met += 1
                        return fault
        return None

    def answer(self, call: Call) -> Answer:
        """What the APIs answer."""
        try:
            if not call.who and not call.path.startswith(self.open_to_all):
                raise ApiError("UNAUTHENTICATED", "Request had invalid authentication credentials.")
            for handler in self.handlers:
                answer = handler(call)
                if answer is not None:
                    return answer
            return Answer(404, b"<html><title>Error 404 (Not Found)!!1</title></html>", {"Content-Type": "text/html"})
        except ApiError as error:
            return error.answer()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: Server

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that was killed
            super().handle_one_request()
            return
        self.close_connection = True

    def _serve(self) -> None:
        call = self._read()
        fault = self.owner.fault_of(call)
        if fault and fault.before:
            fault.before(call)
        if fault and fault.hang:
            while not fault.over.wait(0.05) and not self._client_is_gone():
                pass
        if fault and (fault.reset or fault.hang):
            self._record(call)
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        error = fault.error if fault else None
        if error is None:
            answer = self.owner.answer(call)
        else:
            answer = error.answer() if isinstance(error, ApiError) else error
        call.status, call.answer = answer.status, answer.body
        self._record(call)
        if fault and fault.after:
            fault.after(call)
        self._send(answer)

    do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = _serve

    def _read(self) -> Call:
        split = urllib.parse.urlsplit(self.path)
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        headers = {key.lower(): value for key, value in self.headers.items()}
        who = self.owner.tokens.get(token, "")
        return Call(who, self.command, split.path, split.query, headers, data, time.monotonic())

    def _record(self, call: Call) -> None:
        with self.owner.changed:
            self.owner.calls.append(call)
            self.owner.changed.notify_all()

    def _client_is_gone(self) -> bool:
        self.connection.settimeout(0.001)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(None)

    def _send(self, answer: Answer) -> None:
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        headers = {"Content-Type": "application/json; charset=UTF-8"} | answer.headers
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Nothing: calls are in the record."""
