"""The real gcloud, pointed at the loopback services.

Owns its configuration folder and how it is started. Tests that need it are skipped where it is not installed, and fail there
instead when REQUIRE_GCLOUD is set, as `.ci/run` does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cloud.services import PROJECT, USER_TOKEN, ZONE, Services

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


class Gcloud:
    """gcloud with a folder of its own, logged in by a token file."""

    def __init__(self, folder: Path, services: Services):
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
