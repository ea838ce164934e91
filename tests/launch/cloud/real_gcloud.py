"""The real gcloud, pointed at the loopback services.

Owns its configuration folder and how it is started. Tests that need it are skipped where it is not installed, and fail there
instead when REQUIRE_GCLOUD is set, as `.ci/run` does.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cloud.server import Call
from cloud.services import PROJECT, USER_TOKEN, ZONE, Services
from tests.trainers import CLIENT

VERSION = "528"  # whose requests were looked at by hand


def find_gcloud() -> str:
    """The program's path; skips or fails the test where there is none."""
    found = shutil.which("gcloud")
    if found is None:
        reason = "gcloud is not installed: nothing checks the loopback services against it"
        if os.environ.get("REQUIRE_GCLOUD"):
            pytest.fail(f"{reason}, and REQUIRE_GCLOUD is set", pytrace=False)
        pytest.skip(reason)
    return found


def _inside(script: str, *arguments: str) -> list[str]:
    """The command that runs a script of `inside_gcloud` with gcloud's own Python, on gcloud's folder."""
    root = Path(find_gcloud()).resolve().parents[1]
    bundled = root / "platform" / "bundledpythonunix" / "bin" / "python3"
    program = str(bundled) if bundled.exists() else "python3"
    return [program, "-S", str(Path(__file__).parent / "inside_gcloud" / script), str(root), *arguments]


def run_inside(script: str, *arguments: str, given: str = "") -> str:
    """Runs a script of `inside_gcloud`; returns what it printed."""
    result = subprocess.run(_inside(script, *arguments), input=given, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


@functools.cache
def _forking_python() -> str:
    """A program that stands for gcloud's Python and begins with gcloud imported, until the tests are over."""
    folder = Path(tempfile.mkdtemp(prefix="gcloud-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(16)
        number = listener.fileno()
        server = subprocess.Popen(_inside("forks.py", str(number)), stdin=subprocess.PIPE, pass_fds=[number])
    atexit.register(server.wait)
    atexit.register(server.stdin.close)  # before the wait: it ends the server
    python = folder / "python3"
    words = [getattr(sys, "_base_executable", sys.executable), "-I", "-S", str(CLIENT), str(folder / "socket")]
    python.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    python.chmod(0o755)
    return str(python)


# The message classes of what is answered, by method and path.
_CLASSES = (
    (r"GET /(v2\w*)/.*/queuedResources", "tpu", "ListQueuedResourcesResponse"),
    (r"GET /(v2\w*)/.*/queuedResources/[^/]+", "tpu", "QueuedResource"),
    (r"GET /(v2\w*)/.*/nodes", "tpu", "ListNodesResponse"),
    (r"GET /(v2\w*)/.*/nodes/[^/]+", "tpu", "Node"),
    (r"GET /(v2\w*)/.*/acceleratorTypes", "tpu", "ListAcceleratorTypesResponse"),
    (r"GET /(v2\w*)/.*/acceleratorTypes/[^/]+", "tpu", "AcceleratorType"),
    (r"POST /(v2\w*)/.*:getGuestAttributes", "tpu", "GetGuestAttributesResponse"),
    (r"(?:POST|DELETE|PATCH|GET) /(v2\w*)/.*", "tpu", "Operation"),
    (r"GET /compute/(v1)/projects/[^/]+", "compute", "Project"),
    (r"GET /compute/(v1)/.*/instances/[^/]+", "compute", "Instance"),
    (r"GET /compute/(v1)/.*/instances", "compute", "InstanceList"),
    (r"GET /compute/(v1)/.*/subnetworks/[^/]+", "compute", "Subnetwork"),
    (r"GET /compute/(v1)/projects/[^/]+/zones/[^/]+", "compute", "Zone"),
    (r"(?:POST|DELETE|PATCH|GET) /compute/(v1)/.*", "compute", "Operation"),
)


def unknown_to_gcloud(calls: list[Call]) -> set[str]:
    """The fields and enumerated words in answers of Cloud TPU and Compute that gcloud's message classes have not."""
    lines = set()
    for call in calls:
        if call.status == 200:
            for pattern, api, name in _CLASSES:
                if match := re.fullmatch(pattern, f"{call.method} {call.path}"):
                    lines.add(json.dumps([api, match[1], name, call.answer]))
                    break
    assert lines
    return set(run_inside("strict.py", given="\n".join(sorted(lines))).splitlines())


class Gcloud:
    """gcloud with a folder of its own, logged in by a token file.

    Its program is the installed one; so is its Python with `forked=False`. Else that is forked: see `inside_gcloud/forks.py`.
    """

    def __init__(self, folder: Path, services: Services, *, forked: bool = True):
        self.program = find_gcloud()
        self.folder = folder
        (folder / "home").mkdir(parents=True)
        token = folder / "token"
        token.write_text(USER_TOKEN)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("CLOUDSDK_", "GCE_"))}
        self.environment = (
            kept
            | services.environment
            | {
                "HOME": str(folder / "home"),
                "CLOUDSDK_CONFIG": str(folder / "config"),
                "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
                "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
                "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
                "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
                "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
                "CLOUDSDK_CORE_PROJECT": PROJECT,
                "CLOUDSDK_COMPUTE_ZONE": ZONE,
            }
        )
        if forked:
            self.environment["CLOUDSDK_PYTHON"] = _forking_python()

    def run(self, *arguments: str, **more) -> subprocess.CompletedProcess:
        """Runs a command to its end."""
        return subprocess.run(
            [self.program, *arguments],
            env=self.environment | more.pop("environment", {}),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            **more,
        )

    def json(self, *arguments: str):
        """Runs a command that must succeed, and returns what it prints as JSON."""
        result = self.run(*arguments, "--format=json")
        assert result.returncode == 0, result.stderr
        assert "WARNING" not in result.stderr, result.stderr
        return json.loads(result.stdout or "null")
