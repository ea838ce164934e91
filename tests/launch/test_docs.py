"""docs/pods.md followed literally: each command, in its order, by a fresh shell with the real gcloud, from an empty account.

The rights that the launcher checks for are those that the documented commands give. Commands that need a browser, another
machine or a cluster are named here, so that a new one in the page is either run or looked at.
"""

import os
import pty
import re
import subprocess

import pytest
from cloud.bed import REPOSITORY
from cloud.real_gcloud import Gcloud
from cloud.services import wait_until
from pod.options import Limits

LEFT_OUT = (
    r"gcloud auth (application-default )?login",  # opens a browser; the tests log in by a token file
    # The preparation of datasets has its own tests, and needs machines with what they prepare.
    r"\S*python -m pipeline\.prepare .*--data_dir gs://\$BUCKET/data",
    r"launch/test\.sh --version",
)


def is_left_out(command: str) -> bool:
    """Whether a command is not run here."""
    return any(re.fullmatch(pattern, command) for pattern in LEFT_OUT)


def documented_commands() -> list[str]:
    """The commands before the part about GKE, without their comments."""
    text = (REPOSITORY / "docs" / "pods.md").read_text().split("\n## TPU7x")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s{2,}#.*", "", line) for block in blocks for line in block.splitlines() if line.strip()]


class Shell:
    """A user's shell: each command is given to a bash of its own with what was exported before, on a terminal that says yes."""

    def __init__(self, cloud, gcloud: Gcloud):
        programs = cloud.folder / "programs"
        programs.mkdir()
        ssh = programs / "ssh"  # the last hop of `gcloud compute ssh`: it speaks no protocol of Google's
        ssh.write_text("#!/bin/sh\nexit 0\n")
        ssh.chmod(0o755)
        self._folder = cloud.checkout
        self._exports = ""
        self.environment = gcloud.environment | {
            "PATH": f"{programs}:{gcloud.environment['PATH']}",
            "WANDB_API_KEY": "a-key",
        }
        for name in ("CLOUDSDK_CORE_PROJECT", "CLOUDSDK_COMPUTE_ZONE", "CLOUDSDK_CORE_DISABLE_PROMPTS"):
            del self.environment[name]

    def run(self, command: str) -> str:
        """Runs a command that must succeed; returns what it printed."""
        if command.startswith("export "):
            self._exports += f"{command}\n"
            return ""
        ours, theirs = pty.openpty()
        os.write(ours, b"y\n" * 3)
        words = ["bash", "-c", self._exports + command]
        result = subprocess.run(
            words,
            cwd=self._folder,
            env=self.environment,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        os.close(ours)
        os.close(theirs)
        assert result.returncode == 0, f"{command}\n{result.stdout}"
        return result.stdout


@pytest.mark.slow
def test_each_documented_command_does_what_the_page_says(make_cloud, tmp_path):
    cloud = make_cloud()
    admin, storage = cloud.services.admin, cloud.storage
    admin.bindings, storage.bindings, admin.projects = [], [], set()
    shell = Shell(cloud, Gcloud(tmp_path / "gcloud", cloud.services))
    settings = cloud.checkout / "launch" / "pod.env"
    fast = [line for line in settings.read_text().splitlines() if re.match(r"[A-Z]+_SECONDS=|PLAN=", line)]
    settings.unlink()
    runs = 0
    for command in documented_commands():
        if is_left_out(command):
            continue
        output = shell.run(command)
        if command.endswith(">launch/pod.env"):
            with settings.open("a") as file:
                file.write("\n".join(fast) + "\n")
        if command.startswith("launch/tpu_pod.sh --config"):
            dry = "--dry-run" in command
            runs += not dry
            wait_until(lambda: cloud.tpu.holds == [] and cloud.services.compute.instances == {})
            assert cloud.tpu.created == runs, output
            assert len(cloud.starts(7)) == runs, output
        if command.startswith("launch/tpu_pod.sh status"):
            assert "finished" in output
    assert runs == 3
    assert admin.projects == {"my-project"} == admin.billed
    assert {"tpu.googleapis.com", "compute.googleapis.com", "storage.googleapis.com"} <= admin.enabled
    assert storage.locations["my-bucket"].lower() == "us-central1"
    assert cloud.services.compute.subnetworks["us-central1/default"]["privateIpGoogleAccess"] is True
    assert cloud.nothing_left()
    # The key of the last run came from Secret Manager and was in no request.
    assert admin.secrets["wandb"] == b"a-key"


def test_the_longest_time_that_a_slice_is_billed_for_nothing_is_that_of_the_settings():
    """The page's formula, which the `cloud` fixture holds every test to, with the settings as they come."""
    text = re.sub(r"\s+", " ", (REPOSITORY / "docs" / "pods.md").read_text())
    limits = Limits()
    seconds = max(limits.setup_seconds, limits.idle_seconds)
    seconds += limits.heartbeat_seconds + limits.stop_seconds + limits.grace_seconds
    assert f"on top: {seconds / 60:.0f} minutes with the settings as they come" in text


def test_what_is_left_out_is_still_in_the_page():
    commands = documented_commands()
    for pattern in LEFT_OUT:
        assert any(re.fullmatch(pattern, command) for command in commands), pattern
    assert sum(map(is_left_out, commands)) <= 6
    assert len(commands) > 20
