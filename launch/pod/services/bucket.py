"""Reads, writes, lists and deletes objects in a Cloud Storage bucket through its JSON API.

A write can require the generation that was read, so of several writers that read the same object one succeeds. Transient
errors are retried for `patience` seconds. Nothing is cached.
"""

from __future__ import annotations

import json
import secrets
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pod.clock import Clock
from pod.services.credentials import Credentials, authorized
from pod.services.endpoints import Endpoints, find_endpoints
from pod.services.http import ApiError, Response, retrying

ABSENT = 0  # the generation of a missing object


class Conflict(Exception):
    """The object has another generation than expected: another process wrote it."""


@dataclass(frozen=True)
class Listed:
    """An object of a listing: its name, size in bytes, generation and metadata."""

    name: str
    size: int
    generation: int
    metadata: Mapping[str, str]


def split_url(url: str) -> tuple[str, str]:
    """Returns (bucket, name) of gs://bucket/name, without trailing slashes.

    Raises:
      ValueError: it is not such a URL.
    """
    if not url.startswith("gs://") or not url[5:].split("/")[0]:
        raise ValueError(f"{url!r} is not a path in a bucket; expected gs://BUCKET/…")
    bucket, _, name = url[5:].partition("/")
    return bucket, name.rstrip("/")


class Bucket:
    """One bucket.

    Args:
      name: its name, without gs://.
      credentials: the source of tokens.
      endpoints: the services' URLs.
      patience: for how many seconds transient errors are retried.
      timeout: seconds for one request.
      clock: the clock of the pauses.
    """

    def __init__(
        self,
        name: str,
        credentials: Credentials,
        endpoints: Endpoints | None = None,
        *,
        patience: float = 60.0,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ):
        self.name = name
        self._credentials, self._patience, self._timeout = credentials, patience, timeout
        self._clock = clock or Clock()
        root = (endpoints or find_endpoints()).storage
        self._bucket_url = f"{root}storage/v1/b/{_quoted(name)}"
        self._upload_url = f"{root}upload/storage/v1/b/{_quoted(name)}/o"

    def location(self) -> str:
        """Returns the bucket's location in lower case, such as "us-central1" or "us".

        Raises:
          ApiError: there is no such bucket (404), access is denied (403), or the service fails.
        """
        return self._call("GET", self._bucket_url).json()["location"].lower()

    def permissions(self, *wanted: str) -> set[str]:
        """Returns those of the permissions, such as "storage.objects.create", that the account has on the bucket."""
        query = urllib.parse.urlencode([("permissions", permission) for permission in wanted])
        answer = self._call("GET", f"{self._bucket_url}/iam/testPermissions?{query}").json()
        return set(answer.get("permissions", []))

    def read(self, name: str) -> tuple[bytes, int] | None:
        """Returns (content, generation) of an object, or None.

        Raises:
          ApiError: access is denied, or the service fails for too long.
        """
        try:
            answer = self._call("GET", f"{self._object_url(name)}?alt=media")
        except ApiError as error:
            if error.http_status == 404 and not _says_no_bucket(error):
                return None
            raise
        if "x-goog-generation" not in answer.headers:
            raise answer.misplaced()
        return answer.body, int(answer.headers["x-goog-generation"])

    def write(
        self,
        name: str,
        content: bytes,
        *,
        if_generation: int | None = None,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        """Writes a whole object and returns its generation.

        Args:
          name: the object's name.
          content: the new content.
          if_generation: write only if the object has this generation; `ABSENT`: only if it does not exist.
          content_type: the content's type.
          metadata: text that a listing shows, at most 8 KiB together.

        Raises:
          Conflict: the object has another generation.
          ApiError: access is denied, or the service fails for too long.
        """
        query = {"uploadType": "multipart"}
        if if_generation is not None:
            query["ifGenerationMatch"] = str(if_generation)
        url = f"{self._upload_url}?{urllib.parse.urlencode(query)}"
        # Objects of a public bucket are cached for an hour unless they say otherwise.
        description: dict[str, Any] = {"name": name, "contentType": content_type, "cacheControl": "no-store"}
        if metadata:
            description["metadata"] = metadata
        body, boundary = _multipart(description, content, content_type)
        headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
        unclear = False  # whether an unanswered attempt may have written

        def attempt() -> Response:
            nonlocal unclear
            try:
                return self._once("POST", url, body=body, headers=headers)
            except ApiError as error:
                unclear = unclear or (error.passing and not error.not_done)
                raise

        try:
            answer = retrying(attempt, seconds=self._patience, clock=self._clock)
        except ApiError as error:
            if error.http_status != 412:
                raise
            found = self.read(name) if unclear else None
            if found is not None and found[0] == content:
                return found[1]
            raise Conflict(f"gs://{self.name}/{name} was written by somebody else") from None
        return int(answer.json()["generation"])

    def upload_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        """Writes the content of a file; see `write`."""
        return self.write(name, Path(path).read_bytes(), if_generation=if_generation)

    def delete(self, name: str, *, if_generation: int | None = None) -> bool:
        """Deletes an object and returns whether it existed.

        Raises:
          Conflict: it has another generation than `if_generation`.
          ApiError: access is denied, or the service fails for too long.
        """
        query = "" if if_generation is None else f"?ifGenerationMatch={if_generation}"
        try:
            self._call("DELETE", self._object_url(name) + query)
        except ApiError as error:
            if error.http_status == 404:
                return False
            if error.http_status == 412:
                raise Conflict(f"gs://{self.name}/{name} was written by somebody else") from None
            raise
        return True

    def list(self, prefix: str, *, start: str = "") -> Sequence[Listed]:
        """Returns the objects whose names have the prefix and are not before `start`, sorted by name."""
        found = []
        page = ""
        while True:
            query = {"prefix": prefix, "fields": "items(name,size,generation,metadata),nextPageToken"}
            if start:
                query["startOffset"] = start
            if page:
                query["pageToken"] = page
            answer = self._call("GET", f"{self._bucket_url}/o?{urllib.parse.urlencode(query)}").json()
            for item in answer.get("items", []):
                listed = Listed(
                    item["name"], int(item.get("size", 0)), int(item["generation"]), item.get("metadata", {})
                )
                found.append(listed)
            page = answer.get("nextPageToken", "")
            if not page:
                return sorted(found, key=lambda listed: listed.name)

    def _object_url(self, name: str) -> str:
        return f"{self._bucket_url}/o/{_quoted(name)}"

    def _once(self, method: str, url: str, **options) -> Response:
        return authorized(self._credentials, method, url, timeout=self._timeout, **options)

    def _call(self, method: str, url: str) -> Response:
        return retrying(lambda: self._once(method, url), seconds=self._patience, clock=self._clock)


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="~")


def _says_no_bucket(error: ApiError) -> bool:
    return "bucket does not exist" in error.message.lower()


def _multipart(description: Mapping[str, object], content: bytes, content_type: str) -> tuple[bytes, str]:
    """Returns (body, boundary) of a multipart upload of an object's description and content."""
    boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(description)}\r\n"
    head += f"--{boundary}\r\nContent-Type: {content_type}\r\n\r\n"
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode(), boundary
