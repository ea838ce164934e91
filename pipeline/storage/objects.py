"""Reads and writes the objects of a bucket with Google's Python client, one request for each call if possible.

A location is `gs://bucket/key`. Contents and listings are not cached, because several processes write to one bucket. Requests
are retried by the rules of `failures`, so each may be sent twice: writes are whole objects, and an append carries the
generation that it extends. The functions are thread-safe, and each process has its own client.
"""

import base64
import concurrent.futures
import dataclasses
import datetime
import functools
import os
from collections.abc import Iterable
from typing import IO

import google_crc32c
from google.api_core import exceptions
from google.cloud import storage

from pipeline.storage import failures

# Otherwise Google's client requests each bucket's metadata in the background, for traces that nobody collects.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")

_TIMEOUT_SECONDS = (10, 60)  # to connect; between two bytes
_FIELDS = "items(name,size,generation,crc32c,updated),prefixes,nextPageToken"
_DELETING_THREADS = 16
ONE_REQUEST_BYTES = 8 * 1024**2  # larger contents are sent in resumable pieces


@dataclasses.dataclass(frozen=True)
class Entry:
    """An object.

    Attributes:
      location: `gs://bucket/key`.
      size: in bytes.
      generation: a number that changes with the content.
      crc32c: the checksum of the content, in the server's base64.
      updated: the time of the last write.
    """

    location: str
    size: int
    generation: int
    crc32c: str | None
    updated: datetime.datetime | None


def split(location: str) -> tuple[str, str]:
    """Returns the bucket and the key of `gs://bucket/key`; the key may be empty."""
    bucket, _, key = location.removeprefix("gs://").partition("/")
    return bucket, key


def stat(location: str) -> Entry | None:
    """Returns the object, or None; one request."""
    blob = _blob(location)
    try:
        failures.patiently(lambda: blob.reload(timeout=_TIMEOUT_SECONDS, retry=None), location)
    except FileNotFoundError:
        return None
    return _entry(blob)


def entries(folder: str, *, recursive: bool = False, limit: int | None = None) -> tuple[list[Entry], list[str]]:
    """Returns the objects and the locations of the folders in a folder; one request for each thousand.

    With `recursive`, returns all objects below and no folders. The object that stands for the folder itself is included.
    """
    bucket, key = split(folder)
    listing = _client(folder).list_blobs(
        bucket,
        prefix=f"{key.rstrip('/')}/" if key else None,
        delimiter=None if recursive else "/",
        max_results=limit,
        fields=_FIELDS,
        timeout=_TIMEOUT_SECONDS,
        retry=failures.patient_retry(folder),
    )
    try:
        found = [_entry(blob) for blob in listing]
    except Exception as error:
        error = failures.explained(error, folder)
        raise failures.no_such_bucket(folder) if isinstance(error, FileNotFoundError) else error from None
    prefixes: set[str] = listing.prefixes  # pyrefly: ignore[missing-attribute] - `list_blobs` adds it to the iterator
    return found, [f"gs://{bucket}/{prefix.rstrip('/')}" for prefix in sorted(prefixes)]


def read(location: str, start: int | None = None, end: int | None = None, *, generation: int | None = None) -> bytes:
    """Returns the content, or its bytes [start, end); one request.

    Raises:
      FileNotFoundError: there is no such object, or not of this generation.
    """
    blob = _blob(location, generation)
    last = None if end is None else end - 1
    return failures.patiently(
        lambda: blob.download_as_bytes(
            start=start, end=last, timeout=_TIMEOUT_SECONDS, retry=None, checksum=None if start or end else "crc32c"
        ),
        location,
    )


def write(location: str, content: bytes | IO[bytes], *, generation: int | None = None) -> Entry:
    """Writes a whole object; readers see the old content or the new. One request up to 8 MiB.

    Args:
      location: The location of the object.
      content: The bytes, or a file that is read from its beginning.
      generation: The required generation of the object that is replaced; 0: there must be no object.

    Raises:
      FileExistsError: the object has another generation.
    """
    blob = _blob(location)
    options = {
        "content_type": "application/octet-stream",
        "if_generation_match": generation,
        "timeout": _TIMEOUT_SECONDS,
        "checksum": "crc32c",
    }

    attempts = 0

    def send() -> None:
        nonlocal attempts
        attempts += 1
        if isinstance(content, bytes):
            blob.upload_from_string(content, retry=None, **options)
        else:
            blob.upload_from_file(content, rewind=True, retry=failures.patient_retry(location), **options)

    try:
        failures.patiently(send, location)
    except FileNotFoundError:
        raise failures.no_such_bucket(location) from None
    except FileExistsError:
        # An answer that was lost on its way: the request that was sent again found its own work done.
        if attempts == 1 or not isinstance(content, bytes):
            raise
        found = stat(location)
        if found is None or found.crc32c != _crc32c(content):
            raise
        return found
    return _entry(blob)


def append(location: str, content: bytes) -> None:
    """Appends bytes to an object, which need not exist; sends only these bytes.

    The bytes are written as a piece, which the server then joins to the object. A killed process leaves all of them appended
    or none, and at most the piece, whose name is always the same.

    Raises:
      FileExistsError: another process wrote the object meanwhile.
    """
    before = stat(location)
    if before is None:
        write(location, content, generation=0)
        return
    piece = f"{location}.piece"
    write(piece, content)
    target = _blob(location)
    sources = [target, _blob(piece)]
    try:
        failures.patiently(
            lambda: target.compose(
                sources, if_generation_match=before.generation, timeout=_TIMEOUT_SECONDS, retry=None
            ),
            location,
        )
    except FileExistsError:
        # An answer that was lost on its way: the request that was sent again found its own work done.
        after = stat(location)
        if after is None or after.size != before.size + len(content):
            raise
    delete(piece, missing_ok=True)


def copy(source: str, target: str) -> None:
    """Copies an object on the server."""
    blob, original = _blob(target), _blob(source)
    token, is_done = None, False
    while not is_done:  # large objects take several requests
        rewrite = functools.partial(blob.rewrite, original, token=token, timeout=_TIMEOUT_SECONDS, retry=None)
        token, _, _ = failures.patiently(rewrite, source)
        is_done = token is None


def delete(location: str, *, missing_ok: bool = False) -> None:
    """Deletes an object.

    Raises:
      FileNotFoundError: there is none, and `missing_ok` is False.
    """
    blob = _blob(location)
    attempts = 0

    def send() -> None:
        nonlocal attempts
        attempts += 1
        try:
            blob.delete(timeout=_TIMEOUT_SECONDS, retry=None)
        except exceptions.NotFound:
            if attempts == 1 and not missing_ok:  # a retry may find that its first attempt succeeded
                raise

    failures.patiently(send, location)


def delete_all(locations: Iterable[str]) -> None:
    """Deletes objects, several at a time; missing ones are ignored."""
    with concurrent.futures.ThreadPoolExecutor(_DELETING_THREADS, "delete") as pool:
        for deleted in [pool.submit(delete, location, missing_ok=True) for location in locations]:
            deleted.result()


def region(location: str) -> str | None:
    """Returns the location of the bucket, such as "europe-west4" or "us"; None if this account may not read it."""
    bucket, _ = split(location)
    try:
        found = failures.patiently(
            lambda: _client(location).get_bucket(bucket, timeout=_TIMEOUT_SECONDS, retry=None), location
        )
    except FileNotFoundError:
        raise failures.no_such_bucket(location) from None
    except failures.ConfigError:
        return None
    return found.location.lower()


def _crc32c(content: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()


def _entry(blob: storage.Blob) -> Entry:
    return Entry(
        location=f"gs://{blob.bucket.name}/{blob.name}",
        size=blob.size or 0,
        generation=blob.generation or 0,
        crc32c=blob.crc32c,
        updated=blob.updated,
    )


def _blob(location: str, generation: int | None = None) -> storage.Blob:
    bucket, key = split(location)
    client = _client(location)
    try:
        return client.bucket(bucket).blob(key, generation=generation)
    except ValueError as error:
        raise failures.ConfigError(f"{location}: {bucket!r} is not the name of a bucket: {error}") from error


def _client(location: str) -> storage.Client:
    """Returns this process's client; threads share its connections."""
    try:
        return _client_of_process(os.getpid())
    except Exception as error:
        raise failures.explained(error, location) from error


@functools.cache
def _client_of_process(process: int) -> storage.Client:
    del process  # a forked process must not use its parent's connections
    return storage.Client(project=None)
