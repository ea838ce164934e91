"""Access tokens: from gcloud on a user's machine, from the metadata server in Google's cloud.

A call to gcloud takes seconds, so a token is kept until five minutes before it expires. Call `forget` if a service refuses it.
Tokens are never written anywhere.
"""

from __future__ import annotations

import calendar
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pod.clock import Clock
from pod.services.endpoints import Endpoints
from pod.services.http import ApiError, Response, request, retrying

Result = TypeVar("Result")

_MARGIN_SECONDS = 300.0
_UNKNOWN_SECONDS = 300.0  # for a token without an expiry, such as one from a file
_GCLOUD_SECONDS = 60.0


class CredentialsError(Exception):
    """There is no token; the message is one line on what to do."""


class Credentials:
    """Provides a token and keeps it while it is valid. Subclasses fetch it in `_fetch`."""

    def __init__(self, clock: Clock | None = None):
        self._clock = clock or Clock()
        self._token, self._until = "", 0.0

    def token(self) -> str:
        """Returns an access token.

        Raises:
          CredentialsError: there is none.
        """
        if self._clock.now() >= self._until:
            self._token, end = self._fetch()
            self._until = self._clock.now() + _UNKNOWN_SECONDS if end is None else end - _MARGIN_SECONDS
        return self._token

    def forget(self) -> None:
        """Fetches another token the next time."""
        self._until = 0.0

    def _fetch(self) -> tuple[str, float | None]:
        """Returns (token, expiry in seconds since 1970 or None if unknown)."""
        raise NotImplementedError


class GcloudCredentials(Credentials):
    """The account that gcloud is logged in as, by whichever method."""

    def __init__(self, clock: Clock | None = None, environment: Mapping[str, str] = os.environ):
        super().__init__(clock)
        self._environment = environment

    def _fetch(self) -> tuple[str, float | None]:
        # Not `auth print-access-token`, which does not print the expiry.
        output = self._run("config", "config-helper", f"--min-expiry={int(2 * _MARGIN_SECONDS)}s", "--format=json")
        try:
            credential = json.loads(output)["credential"]
            expiry = credential["token_expiry"]
            end = None if expiry is None else calendar.timegm(time.strptime(expiry[:19], "%Y-%m-%dT%H:%M:%S"))
            return credential["access_token"], end
        except (ValueError, KeyError, TypeError):
            raise CredentialsError("gcloud gives no access token; log in: gcloud auth login") from None

    def _run(self, *arguments: str) -> str:
        program = shutil.which("gcloud", path=self._environment.get("PATH"))
        if program is None:
            raise CredentialsError(
                "gcloud is not installed; see https://cloud.google.com/sdk/docs/install (it gives the access token)"
            )
        try:
            done = subprocess.run(
                [program, "--quiet", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_GCLOUD_SECONDS,
                env=dict(self._environment),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CredentialsError(
                f"gcloud gave no access token in {_GCLOUD_SECONDS:.0f} seconds; log in again: gcloud auth login"
            ) from None
        if done.returncode != 0:
            raise CredentialsError(meaning_of_gcloud(done.stderr))
        return done.stdout


class MetadataCredentials(Credentials):
    """The service account of a machine in Google's cloud."""

    def __init__(self, endpoints: Endpoints, clock: Clock | None = None):
        super().__init__(clock)
        self._url = f"{endpoints.metadata}instance/service-accounts/default/token"

    def _fetch(self) -> tuple[str, float | None]:
        try:
            answer = retrying(
                lambda: request("GET", self._url, headers={"Metadata-Flavor": "Google"}, timeout=10, proxy=False),
                seconds=30,
                clock=self._clock,
            ).json()
            return answer["access_token"], self._clock.now() + float(answer["expires_in"])
        except ApiError as error:
            if error.http_status == 404:
                raise CredentialsError("this machine has no service account; create it again with one") from None
            raise CredentialsError(f"the metadata server gives no access token: {error}") from None
        except (ValueError, KeyError, TypeError):
            raise CredentialsError("the metadata server gives no access token") from None


def authorized(credentials: Credentials, method: str, url: str, **options: Any) -> Response:
    """Returns the response of `pod.services.http.request` with a token; a refused token is replaced once.

    Raises:
      ApiError: as `request`.
      CredentialsError: there is no token.
    """
    try:
        return request(method, url, token=credentials.token(), **options)
    except ApiError as error:
        if error.http_status != 401:
            raise
    credentials.forget()
    return request(method, url, token=credentials.token(), **options)


def patient(call: Callable[[], Result], seconds: float, clock: Clock | None = None) -> Result:
    """Retries `call` as `retrying` does, and also waits for a token that is unavailable for a while."""

    def attempt() -> Result:
        try:
            return call()
        except CredentialsError as error:
            raise ApiError(0, "UNAUTHENTICATED", str(error), "credentials", reached=False) from error

    try:
        return retrying(attempt, seconds=seconds, clock=clock)
    except ApiError as error:
        if isinstance(error.__cause__, CredentialsError):
            raise error.__cause__ from None
        raise


def meaning_of_gcloud(output: str) -> str:
    """Returns what gcloud's error output means and what to do about it, in one line."""
    words = " ".join(output.split())
    if "do not currently have an active account" in words:
        return "gcloud is not logged in: gcloud auth login"
    if any(sign in words for sign in ("Reauthentication", "refreshing your current auth tokens", "invalid_grant")):
        return "gcloud's login has expired: gcloud auth login"
    lines = [line for line in output.splitlines() if line.strip()]
    line = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no reason given")
    return f"gcloud gives no access token: {line.strip()}"
