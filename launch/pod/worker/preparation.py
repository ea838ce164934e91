"""Prepares one machine for a job: code, environment and packages.

The results are `code-<sha256>/`, `environment.json` (readable only by its owner) and, by `packages.sh`, `.venv`. The work
runs in its own thread, so the agent's heartbeat continues. Failures are retried with growing pauses until the time is over,
because a package index that is unreachable for minutes is no reason to give a slice back. Nothing is touched while a trainer
runs.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
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

_PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)


class NotPrepared(Exception):
    """The preparation failed; the message is one line."""


class Preparation:
    """Prepares this machine for one job.

    Attributes:
      state: "setup", "ready" or "failed".
      message: the last failure.
      environment: the trainer's environment, once it is ready.
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
        """Stops the preparation and waits until it has stopped."""
        self._cancelled.set()
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        end = self._clock.monotonic() + self._seconds
        for attempt in range(1_000_000):
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
        """Returns the trainer's environment from the bucket and Secret Manager; once read, it is kept on this machine."""
        path = self._root / "environment.json"
        kept = {}
        with contextlib.suppress(FileNotFoundError, ValueError):
            kept = json.loads(path.read_text())
        given: dict[str, str] = {}
        if self.job.environment:
            if kept.get("object") == self.job.environment:
                given = kept["given"]
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
            return base64.b64decode(answer["payload"]["data"]).decode()
        except UnicodeDecodeError:
            raise NotPrepared(f"{name}: it is not text, which an environment cannot hold") from None

    def _install(self) -> None:
        """Runs packages.sh; raises NotPrepared with its last line."""
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
                os.killpg(self._process.pid, 15)
            status = self._process.wait()
        if status != 0:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise NotPrepared(lines[-1] if lines else f"packages.sh ended with status {status}")


def code_folder(root: Path, name: str) -> Path:
    """Returns the folder into which an archive `code-<sha256>.tar.gz` is unpacked."""
    return root / name[: -len(".tar.gz")] if name.endswith(".tar.gz") else root / name


def fetch_code(root: Path, plane: ControlPlane, name: str) -> Path:
    """Returns the folder with the code of an archive, which is fetched if it is missing.

    Raises:
      NotPrepared: the archive is not in the bucket, or its checksum differs from its name.
      ApiError: the bucket cannot be read.
    """
    folder = code_folder(root, name)
    if folder.exists():
        return folder
    wanted = re.fullmatch(r"code-([0-9a-f]{64})\.tar\.gz", name)
    if wanted is None:
        raise NotPrepared(f"{name} is not the name of an archive of code")
    found = plane.bucket.read(plane.name(name))
    if found is None:
        raise NotPrepared(f"{plane.url}/{name} is not there; start the run again")
    if hashlib.sha256(found[0]).hexdigest() != wanted[1]:
        raise NotPrepared(f"{plane.url}/{name} is damaged: its checksum is another one than its name says")
    partial = root / f"{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(found[0]), mode="r:gz") as archive:
        # Newer Pythons need a filter that forbids writing outside the folder; older ones do not know the argument.
        options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(partial, **options)
    partial.rename(folder)
    return folder


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read."""
    partial = path.with_suffix(".partial")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)
