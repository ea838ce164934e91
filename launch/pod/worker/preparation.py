"""Prepares one machine for a job: code, environment and packages.

The results, below the machine's root folder, are `code-<sha256>/`, `environment.json` (readable only by its owner), `setup.log`
and the `.venv` that `packages.sh` makes. Values from Secret Manager stay in memory.

The work runs in its own thread, so the agent's heartbeat continues. Failures are retried with backoff until the time limit. A
package index may be unreachable for minutes, and that alone is no reason to delete a slice. The agent starts no preparation
while a trainer runs, because the trainer uses the same `.venv`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

from pod.clock import Clock
from pod.plane.control import Job
from pod.plane.control_plane import ControlPlane
from pod.services.credentials import Credentials, CredentialsError, authorized
from pod.services.endpoints import Endpoints
from pod.services.http import ApiError, retrying

_PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)  # seconds between attempts; the last one repeats


class NotPrepared(Exception):
    """An attempt at the preparation failed; the message says why."""


class Preparation:
    """Prepares this machine for one job, in a thread that starts at once.

    Args:
      root: the folder of the results.
      plane: the control plane, which has the archive of the code and the environment.
      credentials: the credentials for Secret Manager.
      endpoints: the addresses of the services.
      job: the job.
      seconds: the time limit; no attempt starts after it.
      clock: the clock of the limit.

    Attributes:
      job: the job.
      state: "setup", "ready" or "failed". "failed" is final.
      message: the last failure in one line, at most 500 characters; "" once the state is "ready".
      environment: the trainer's environment, complete once the state is "ready".
    """

    def __init__(
        self,
        root: Path,
        plane: ControlPlane,
        credentials: Credentials,
        endpoints: Endpoints,
        job: Job,
        seconds: float,
        clock: Clock,
    ):
        self._root, self._plane, self._credentials, self._endpoints = root, plane, credentials, endpoints
        self.job, self._seconds, self._clock = job, seconds, clock
        self.state, self.message = "setup", ""
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen | None = None
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preparation", daemon=True)
        self._thread.start()

    @property
    def code(self) -> Path:
        """The folder of the job's code."""
        return code_folder(self._root, self.job.code)

    def cancel(self) -> None:
        """Stops the preparation and waits up to 30 seconds for its thread."""
        self._cancelled.set()
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        end = self._clock.monotonic() + self._seconds
        for attempt in itertools.count():
            try:
                fetch_code(self._root, self._plane, self.job.code)
                self.environment = self._fetch_environment()
                self._install()
                self.state, self.message = "ready", ""
                return
            except (NotPrepared, ApiError, CredentialsError, OSError, tarfile.TarError) as error:
                self.message = " ".join(str(error).split())[:500]
            pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
            if self._clock.monotonic() + pause > end:
                break
            if self._cancelled.wait(pause):
                return
        self.state = "failed"

    def _fetch_environment(self) -> dict[str, str]:
        """Returns the trainer's environment: the variables from the bucket, and the secrets from Secret Manager.

        The variables are cached in `environment.json`, because their object is deleted once all workers have read it.

        Raises:
          NotPrepared: the object is gone, or a secret cannot be read or is not text.
          ApiError, CredentialsError: a service did not answer.
        """
        path = self._root / "environment.json"
        cached = {}
        with contextlib.suppress(FileNotFoundError, ValueError):
            cached = json.loads(path.read_text())
        given: dict[str, str] = {}  # by the user, with --env
        if self.job.environment:
            if cached.get("object") == self.job.environment:
                given = cached["given"]
            else:
                found = self._plane.bucket.read(self._plane.name(self.job.environment))
                if found is None:
                    raise NotPrepared("the environment is gone from the bucket; start again with the same --env")
                given = json.loads(found[0])
            write_private(path, json.dumps({"object": self.job.environment, "given": given}))
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        secrets = {name: self._read_secret(version) for name, version in self.job.secrets.items()}
        return {**given, **secrets}

    def _read_secret(self, version: str) -> str:
        """Returns the text of a secret's version, "projects/…/secrets/…/versions/…"; without a version, of the latest one."""
        name = version if "/versions/" in version else f"{version}/versions/latest"
        url = f"{self._endpoints.secrets}v1/{name}:access"
        try:
            answer = retrying(lambda: authorized(self._credentials, "GET", url), seconds=30, clock=self._clock).json()
        except ApiError as error:
            if error.http_status == 403:
                raise NotPrepared(
                    f"{name}: the machines' service account may not read it; it needs roles/secretmanager.secretAccessor"
                ) from None
            raise NotPrepared(f"{name}: {error.message}") from None
        try:
            value = base64.b64decode(answer.get("payload", {}).get("data", "")).decode()  # an empty one has no data
            if "\0" not in value:
                return value
            raise NotPrepared(f"{name}: it holds a zero byte, so it cannot be an environment variable")
        except UnicodeDecodeError:
            raise NotPrepared(f"{name}: it is not text, so it cannot be an environment variable") from None

    def _install(self) -> None:
        """Runs packages.sh and appends its output to `setup.log`; raises NotPrepared with the last line if it fails."""
        log = self._root / "setup.log"
        script = self.code / "launch" / "pod" / "packages.sh"
        if not script.exists():
            raise NotPrepared(f"the code has no {script.relative_to(self.code)}: the archive is of another version")
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["bash", str(script), str(self._root), str(self.code), self.job.mount],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            if self._cancelled.is_set():
                os.killpg(self._process.pid, signal.SIGTERM)  # `cancel` came before there was a process
            status = self._process.wait()
        if status != 0:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise NotPrepared(lines[-1] if lines else f"packages.sh ended with status {status}")


def code_folder(root: Path, name: str) -> Path:
    """Returns the folder for the content of an archive `code-<sha256>.tar.gz`, whether it exists or not."""
    return root / name[: -len(".tar.gz")] if name.endswith(".tar.gz") else root / name


def fetch_code(root: Path, plane: ControlPlane, name: str) -> Path:
    """Returns the folder with the code of an archive. Fetches and unpacks the archive first if the folder is missing.

    The folder appears only when it is complete.

    Raises:
      NotPrepared: the name is not that of an archive, the archive is not in the bucket, or its SHA-256 is not the one in its
        name.
      ApiError: the bucket cannot be read.
      OSError, tarfile.TarError: the archive cannot be unpacked.
    """
    folder = code_folder(root, name)
    if folder.exists():
        return folder
    match = re.fullmatch(r"code-([0-9a-f]{64})\.tar\.gz", name)
    if match is None:
        raise NotPrepared(f"{name} is not the name of an archive of code")
    found = plane.bucket.read(plane.name(name))
    if found is None:
        raise NotPrepared(f"{plane.url}/{name} is not there; start the run again")
    if hashlib.sha256(found[0]).hexdigest() != match[1]:
        raise NotPrepared(f"{plane.url}/{name} is damaged: its checksum is another one than its name says")
    partial = root / f"{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(found[0]), mode="r:gz") as archive:
        # The filter forbids writing outside the folder. Older Pythons do not know the argument.
        options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(partial, **options)
    partial.rename(folder)
    return folder


def write_private(path: Path, text: str) -> None:
    """Replaces a file atomically by one that only its owner can read."""
    partial = path.with_suffix(".partial")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)
