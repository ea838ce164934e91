"""Sends one HTTP request and interprets the response, with time limits, errors and retries.

Every request ends: with a response, or after `timeout` seconds, however slowly the other side sends. An error has the
service's message, and never a token. A request that may have been carried out is sent again only if the caller says that
repeating it does no harm.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pod.clock import Clock

Result = TypeVar("Result")

TIMEOUT_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 30.0
_CHUNK_BYTES = 1 << 16
_AGAIN = (408, 429, 500, 502, 503, 504)
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Response:
    """A response with a status of 200 to 299."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = ""

    def json(self) -> Any:
        """Returns the body parsed as JSON; an empty body is an empty object.

        Raises:
          ApiError: it is not JSON. Some proxy, such as that of a hotel or a company, has answered instead of the service.
        """
        try:
            return json.loads(self.body or b"{}")
        except ValueError:
            raise self.misplaced() from None

    def misplaced(self) -> ApiError:
        """Returns the error that this is not the service's answer."""
        begins = " ".join(self.body[:100].decode(errors="replace").split())
        return ApiError(0, "UNAVAILABLE", f"something else answered in the service's place: {begins!r}", self.url)


class ApiError(Exception):
    """A request that failed.

    Attributes:
      http_status: the status of the response; 0 if there was none.
      status: the service's word, such as "NOT_FOUND"; "UNAVAILABLE" if there was no response.
      message: the service's message, in one line.
      url: the URL without its query.
      reached: whether the request may have reached the service.
      pause: the seconds that the service asked to wait.
      details: the error's details, as the service sent them.
    """

    def __init__(
        self,
        http_status: int,
        status: str,
        message: str,
        url: str,
        *,
        reached: bool = True,
        pause: float = 0.0,
        details: Any = None,
    ):
        super().__init__(http_status, status, message, url)
        self.http_status, self.status, self.message, self.url = http_status, status, message, url
        self.reached, self.pause, self.details = reached, pause, details

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.http_status == 0 or self.http_status in _AGAIN

    @property
    def not_done(self) -> bool:
        """Whether the service has certainly not carried out the request."""
        return not self.reached or self.http_status == 429

    def __str__(self) -> str:
        what = f"{self.status} ({self.http_status})" if self.http_status else "no answer"
        return f"{what}: {self.message} [{self.url}]"


def request(
    method: str,
    url: str,
    *,
    token: str | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_SECONDS,
    proxy: bool = True,
) -> Response:
    """Sends one request and returns its response.

    Args:
      method: "GET", "POST", …
      url: the URL.
      token: an OAuth access token.
      body: bytes, which are sent unchanged, or any other value, which is sent as JSON.
      headers: additional headers.
      timeout: seconds until the whole response must have arrived.
      proxy: whether the environment's proxies are used; the metadata server is behind none.

    Raises:
      ApiError: there was no response in time, or it reports a failure.
    """
    sent = {"User-Agent": "tpu_pod", **(headers or {})}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    data = body
    if body is not None and not isinstance(body, bytes):
        data = json.dumps(body).encode()
        sent.setdefault("Content-Type", "application/json")
    if data is None and method in ("POST", "PUT", "PATCH"):
        data = b""
    place = url.split("?")[0]
    end = time.monotonic() + timeout
    call = urllib.request.Request(url, data=data, headers=sent, method=method)
    opener = urllib.request.urlopen if proxy else _NO_PROXY.open
    try:
        with opener(call, timeout=timeout) as answer:
            return Response(answer.status, _lower(answer.headers), _read(answer, end), place)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error, place, end) from None
    except (OSError, http.client.HTTPException) as error:
        raise _no_answer(error, place, timeout) from None


def retrying(
    call: Callable[[], Result],
    *,
    seconds: float = 60.0,
    twice_does_no_harm: bool = True,
    clock: Clock | None = None,
) -> Result:
    """Returns the result of `call`, which is retried after transient errors with backoff.

    Args:
      call: sends a request.
      seconds: no attempt begins later than this after the first.
      twice_does_no_harm: False for a request that changes something each time. It is sent again only if the service has
        certainly not carried it out.
      clock: the clock of the pauses.

    Raises:
      ApiError: the last error, once the time limit is reached or another attempt cannot help.
    """
    clock = clock or Clock()
    end = clock.monotonic() + seconds
    pause = 1.0
    while True:
        try:
            return call()
        except ApiError as error:
            wait = max(error.pause, pause * random.uniform(0.5, 1.0))  # spreads the retries of many machines
            again = error.passing and (twice_does_no_harm or error.not_done)
            if not again or clock.monotonic() + wait > end:
                raise
        clock.sleep(wait)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _read(answer: Any, end: float) -> bytes:
    chunks = []
    while True:
        if time.monotonic() > end:
            raise TimeoutError("the answer did not come to an end")
        chunk = answer.read1(_CHUNK_BYTES)
        if not chunk:
            break
        chunks.append(chunk)
    if answer.length:  # the announced rest has not arrived
        raise http.client.IncompleteRead(b"", answer.length)
    return b"".join(chunks)


def _refusal(error: urllib.error.HTTPError, place: str, end: float) -> ApiError:
    try:
        body = _read(error.fp, end) if error.fp is not None else b""
    except (OSError, http.client.HTTPException):
        body = b""
    status, message, details = "", "", None
    try:
        problem = json.loads(body)["error"]
        if isinstance(problem, str):  # the format of OAuth servers
            message = problem
        else:
            status, message, details = problem.get("status", ""), problem.get("message", ""), problem.get("details")
    except (ValueError, KeyError, TypeError, AttributeError):
        message = body.decode(errors="replace")[:300]
    message = " ".join(str(message).split()) or error.reason
    return ApiError(
        error.code, status or _WORDS.get(error.code, ""), message, place, pause=_pause(error.headers), details=details
    )


# The google.rpc.Code of HTTP statuses, for services that send none, such as Cloud Storage.
_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _pause(headers: Any) -> float:
    try:
        return min(float(headers.get("Retry-After", 0)), 10 * _LONGEST_PAUSE_SECONDS)
    except (ValueError, TypeError, AttributeError):
        return 0.0


def _no_answer(error: Exception, place: str, timeout: float) -> ApiError:
    reason = getattr(error, "reason", None)
    cause = reason if isinstance(reason, Exception) else error
    reached = not isinstance(cause, (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError))
    if isinstance(cause, (socket.timeout, TimeoutError)):
        words = f"nothing came for {timeout:g} seconds"
    elif isinstance(cause, socket.gaierror):
        words = "the name is unknown; is there a network?"
    elif isinstance(cause, ssl.SSLCertVerificationError):
        words = f"its certificate is not trusted here: {cause.verify_message}"
        words += (
            " (Python from python.org on macOS: run its Install Certificates.command)"
            if sys.platform == "darwin"
            else ""
        )
    elif isinstance(cause, http.client.IncompleteRead):
        words = "the connection broke in the middle of the answer"
    else:
        words = str(cause) or type(cause).__name__
    return ApiError(0, "UNAVAILABLE", " ".join(words.split()), place, reached=reached)


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
