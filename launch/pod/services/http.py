"""One HTTP request and what its answer means.

Owns time limits, errors and repetition. Every request ends: by an answer, or after `timeout` seconds, however slowly the
other side sends. An error carries what the service said; a token is never part of it. What is repeated is only what may be:
a request that might have been carried out is sent again only if the caller says that twice does no harm.
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
    """An answer with a status of 200 to 299."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Returns the body read as JSON; an empty one as an empty object."""
        return json.loads(self.body or b"{}")


class ApiError(Exception):
    """A request that failed.

    Attributes:
      http_status: the status of the answer; 0 when there was none.
      status: the service's word, such as "NOT_FOUND"; "UNAVAILABLE" when there was no answer.
      message: what the service said, in one line.
      url: what was asked, without its query.
      reached: whether the request may have reached the service.
      pause: for how many seconds the service asked to be left alone.
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
        """Whether the service has certainly not carried the request out."""
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
    """Sends one request and returns its answer.

    Args:
      method: "GET", "POST", …
      url: where to.
      token: an OAuth access token.
      body: bytes as they are, or anything else to be sent as JSON.
      headers: more headers.
      timeout: seconds until the whole answer must be there.
      proxy: whether the environment's proxies are used; the metadata server is behind none.

    Raises:
      ApiError: no answer in time, or one that says that it failed.
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
            return Response(answer.status, _lower(answer.headers), _read(answer, end))
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
    """Returns what `call` returns, which is tried again after passing errors, with growing pauses.

    Args:
      call: makes a request.
      seconds: no attempt begins later than this after the first.
      twice_does_no_harm: False for a request that changes something at each time. It is sent again only if the service has
        certainly not carried it out.
      clock: for the pauses.

    Raises:
      ApiError: the last one, when time is over or another attempt is of no use.
    """
    clock = clock or Clock()
    end = clock.monotonic() + seconds
    pause = 1.0
    while True:
        try:
            return call()
        except ApiError as error:
            wait = max(error.pause, pause * random.uniform(0.5, 1.0))  # so that many machines do not come back at once
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
    if answer.length:  # what was announced and has not come
        raise http.client.IncompleteRead(b"", answer.length)
    return b"".join(chunks)


def _refusal(error: urllib.error.HTTPError, place: str, end: float) -> ApiError:
    try:
        body = _read(error.fp, end) if error.fp is not None else b""
    except (OSError, http.client.HTTPException):
        body = b""
    status, message, details = "", "", None
    try:
        said = json.loads(body)["error"]
        if isinstance(said, str):  # as OAuth's servers say it
            message = said
        else:
            status, message, details = said.get("status", ""), said.get("message", ""), said.get("details")
    except (ValueError, KeyError, TypeError, AttributeError):
        message = body.decode(errors="replace")[:300]
    message = " ".join(str(message).split()) or str(error.reason)
    return ApiError(
        error.code, status or _WORDS.get(error.code, ""), message, place, pause=_pause(error.headers), details=details
    )


# The words of google.rpc.Code for the statuses of services that send none, such as Cloud Storage.
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
