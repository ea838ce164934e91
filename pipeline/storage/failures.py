"""Classifies failures of a bucket: transient ones are retried, permanent ones tell the user what to do.

A transient failure (a reset connection, a time-out, 429, 5xx) is retried with backoff for five minutes. Then it
becomes a `MachineError`, for which the launcher restarts the run. A permanent failure (no credentials, no permission, no such
bucket) is a `ConfigError` at once. A storage failure is never a `DataError`, which is reserved for data that were read
completely and are wrong.
"""

import errno
import functools
import http.client
import os
from collections.abc import Callable
from typing import TypeVar

import requests
import urllib3
from absl import logging
from google.api_core import exceptions, retry
from google.auth import exceptions as auth_exceptions
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from pipeline.errors import ConfigError, MachineError

Result = TypeVar("Result")

PATIENCE_SECONDS = 300.0  # outages of a region last longer; the launcher's restarts bridge them
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 20.0
_PASSING_CODES = (408, 429, 500, 502, 503, 504)
_PASSING_ERRORS = (
    ConnectionError,
    http.client.HTTPException,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ConnectionError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.Timeout,
    urllib3.exceptions.HTTPError,
    DataCorruption,  # the received bytes differ from those that were sent
)


def is_passing(error: BaseException) -> bool:
    """Returns whether a request that failed with this error may succeed if it is sent again."""
    if isinstance(error, auth_exceptions.GoogleAuthError):
        return error.retryable or isinstance(error, auth_exceptions.TransportError)
    return isinstance(error, _PASSING_ERRORS) or _code(error) in _PASSING_CODES


def patient_retry(location: str) -> retry.Retry:
    """Returns Google's `Retry` with this module's rule, for one request about `location`."""
    return retry.Retry(
        predicate=is_passing,
        initial=_FIRST_PAUSE_SECONDS,
        maximum=_LONGEST_PAUSE_SECONDS,
        timeout=PATIENCE_SECONDS,
        on_error=functools.partial(_note, location),
    )


def patiently(request: Callable[[], Result], location: str) -> Result:
    """Returns the result of `request`, which is retried while its failure is transient.

    Raises:
      FileNotFoundError: the object does not exist.
      FileExistsError: a precondition of the request failed.
      ConfigError: credentials, permissions or the bucket's name are wrong.
      MachineError: it failed for `PATIENCE_SECONDS`, or in an unknown way.
    """
    try:
        return patient_retry(location)(request)()
    except Exception as error:
        raise explained(error, location) from error


def explained(error: Exception, location: str) -> Exception:
    """Returns the error to raise in place of an error of Google's client for a request about `location`."""
    if isinstance(error, OSError | ConfigError | MachineError) and not isinstance(error, requests.RequestException):
        return error
    if isinstance(error, exceptions.RetryError):
        return MachineError(
            f"{location}: no answer for {PATIENCE_SECONDS:.0f} seconds, last {_reason(error.cause)}. "
            "The same command continues once storage answers again"
        )
    code, bucket = _code(error), _bucket(location)
    if code == 401 or (isinstance(error, auth_exceptions.GoogleAuthError) and not is_passing(error)):
        return ConfigError(
            f"{location}: no credentials for Google Cloud Storage that work ({_reason(error)}). "
            "On your own machine: gcloud auth application-default login; on a VM: give it a service account with the scope "
            "cloud-platform; or name a key file in GOOGLE_APPLICATION_CREDENTIALS"
        )
    if code == 403:
        return ConfigError(
            f"{location}: no permission ({_reason(error)}). Grant the account of this machine roles/storage.objectUser: "
            f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --member=serviceAccount:ACCOUNT "
            "--role=roles/storage.objectUser"
        )
    if code == 404:
        return not_found(location)
    if code == 412:
        return FileExistsError(f"{location} has changed since this request was prepared: another process writes it too")
    if code == 400:
        return ConfigError(f"{location}: Google Cloud Storage does not accept this name ({_reason(error)})")
    return MachineError(f"{location}: storage failed: {_reason(error)}")


def not_found(location: str) -> FileNotFoundError:
    """Returns the error for a missing object, in the system's words."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location)


def no_such_bucket(location: str) -> ConfigError:
    """Returns the error for a missing bucket."""
    bucket = _bucket(location)
    return ConfigError(
        f"{location}: there is no bucket {bucket}. Check its name, or make it: "
        f"gcloud storage buckets create gs://{bucket} --location=REGION, with the region of the machines"
    )


def _bucket(location: str) -> str:
    return location.removeprefix("gs://").partition("/")[0]


def _code(error: BaseException) -> int | None:
    if isinstance(error, exceptions.GoogleAPICallError):
        return error.code
    return error.response.status_code if isinstance(error, InvalidResponse) else None


def _reason(error: BaseException | None) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]


def _note(location: str, error: Exception) -> None:
    logging.warning("%s: %s; trying again", location, _reason(error))
