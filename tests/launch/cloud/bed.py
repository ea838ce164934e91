"""A checkout of the launcher on a user's machine, and the loopback cloud that it talks to.

Owns the user's machine: a checkout, a home, and a PATH with so little in it that what the launcher needs is known (no flock,
timeout, sha256sum or tar, and no gcloud: the token is that of the metadata server, as on a virtual machine in Google's
cloud, unless a test brings gcloud). Starts `launch/tpu_pod.sh` as a user does and looks at what came of it.
"""

from __future__ import annotations

import atexit
import compileall
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cloud.metadata import Metadata
from cloud.meter import Meter
from cloud.services import BUCKET, PROJECT, USER_TOKEN, ZONE, Services
from tests.trainers import CLIENT, Trainers

REPOSITORY = Path(__file__).resolve().parents[3]
LIMIT_SECONDS = 300  # for what takes seconds on a machine that is not loaded
SETTINGS = {
    "PROJECT": PROJECT,
    "ZONE": ZONE,
    "BUCKET": BUCKET,
    "POLL_SECONDS": "0.3",
    "GRACE_SECONDS": "2",
    "STOP_SECONDS": "20",
    "SETUP_SECONDS": "90",
    "HEARTBEAT_SECONDS": "30",
    "IDLE_SECONDS": "40",
    "CALL_SECONDS": "60",
    "LONG_CALL_SECONDS": "60",
    "LOCK_SECONDS": "2",
    "MAX_REQUESTS": "4",
    "PLAN": "no",  # it is tried by itself
}
RUN = ("up", "--config", "configs/quickstart.py", "--name", "t", "--type", "v5p-16", "--yes")
WORKERS = range(2)  # of a v5p-16
POD = "runs/t/pod"  # the control plane of that run in its bucket
# What neither the launcher nor a configuration imports; a checkout with the stand-in trainer has none of it.
OF_THE_TRAINER = ("benchmarks", "data", "planning", "reporting", "runtime", "scaling", "search", "storage", "training")
OF_THE_TRAINER += ("trials", "weights")
# What the launcher may use on a user's machine, besides Python.
USER_TOOLS = ("bash", "dirname", "env", "git", "sh", "uname")


@functools.cache
def _checkout_with(trainer: str) -> Path:
    """Makes a checkout, with its modules compiled, to be copied: a folder that is deleted when the tests are over."""
    folder = Path(tempfile.mkdtemp(prefix="checkout-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    skipped = ("pod.env", ".venv", "__pycache__")
    for name in ("launch", "configs", "pipeline"):
        more = OF_THE_TRAINER if (name, trainer) == ("pipeline", "stub_trainer") else ()
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns(*skipped, *more))
    shutil.copy(REPOSITORY / "requirements.txt", folder)
    if trainer == "stub_trainer":
        shutil.copy(Path(__file__).parents[1] / "stub_trainer.py", folder / "pipeline" / "train.py")
    else:
        shutil.copy(REPOSITORY / "tests" / "configs" / "tiny.py", folder / "configs" / "tiny.py")
    (folder / ".gitignore").write_text(".venv/\n/launch/pod.env\n__pycache__/\n")
    git = ["git", "-C", str(folder)]
    for words in (["init", "-q", "--template="], ["add", "-A"], ["repack", "-adq"]):
        subprocess.run([*git, *words], check=True)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    shutil.copy(folder / "requirements.txt", folder / ".venv" / "requirements.txt")
    for name in ("launch", "configs", "pipeline"):
        compileall.compile_dir(folder / name, quiet=1)
    return folder


class Cloud:
    """One user's machine and the services it talks to, below `folder`.

    Attributes:
      checkout: the checkout that `launch/tpu_pod.sh` runs from.
      services: the loopback cloud; `tpu`, `storage`, `machines` and `server` are its parts.
      trainer: the folder in which the stand-in trainer is told what to do, and writes down how it was started.
      meter: looks at what is billed and at what runs.
      bound: seconds that a slice may be ready without a job, as docs/pods.md has it for these settings.
    """

    def __init__(self, folder: Path, trainer: str = "stub_trainer"):
        self.folder = folder
        self.checkout = folder / "a checkout"
        self.trainer = folder / "trainer"
        self.trainer.mkdir()
        self.services = Services(folder / "services")
        self.tpu, self.storage = self.services.tpu, self.services.storage
        self.machines, self.server = self.services.machines, self.services.server
        self.meter = Meter(self.tpu, self.trainer / "running")
        self.machines.settings = {"BED_TRAINER": str(self.trainer)}
        self.trainers = None if trainer == "stub_trainer" else Trainers()
        if self.trainers is not None:
            self.machines.settings |= {"BED_FORKS": self.trainers.address, "BED_FORK_CLIENT": str(CLIENT)}
        self.metadata = Metadata(USER_TOKEN, "a-vm", ZONE, {})
        self._make_checkout(trainer)
        self._make_programs()
        self.write_settings()
        self.plan({})

    def _make_checkout(self, trainer: str) -> None:
        shutil.copytree(_checkout_with(trainer), self.checkout, symlinks=True)

    def _make_programs(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir()
        for name in USER_TOOLS:
            if found := shutil.which(name):
                (programs / name).symlink_to(found)
        python = programs / "python3"  # with nothing but its standard library, and so started sooner
        python.write_text(f'#!/bin/sh\nexec "{getattr(sys, "_base_executable", sys.executable)}" -S "$@"\n')
        python.chmod(0o755)

    def write_settings(self, **changes: str) -> None:
        """Writes launch/pod.env."""
        settings = SETTINGS | changes
        lines = [f"{key}={value}" for key, value in settings.items()]
        (self.checkout / "launch" / "pod.env").write_text("# settings\n" + "\n".join(lines) + "\n")
        self.bound = max(float(settings["SETUP_SECONDS"]), float(settings["IDLE_SECONDS"])) + sum(
            float(settings[name]) for name in ("HEARTBEAT_SECONDS", "STOP_SECONDS", "GRACE_SECONDS")
        )

    def plan(self, *entries: dict) -> None:
        """Says how the stand-in trainer behaves at its first, second, … start on a worker."""
        (self.trainer / "plan.json").write_text(json.dumps(entries))

    def release(self) -> None:
        """Lets trainers go on that hold."""
        (self.trainer / "release").touch()

    def environment(self, user: str = "user") -> dict[str, str]:
        """The environment of a user's shell; another user is on another machine."""
        home = self.folder / "homes" / user
        home.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": str(self.folder / "bin"),
            "HOME": str(home),
            "USER": user,
            "LOGNAME": user,
            "LANG": "C.UTF-8",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "POD_CREDENTIALS": "metadata",
            "GCE_METADATA_HOST": self.metadata.host,
            **self.services.environment,
        }

    def start(self, *arguments: str, user: str = "user", **environment: str) -> subprocess.Popen:
        """Starts `launch/tpu_pod.sh` with these arguments."""
        with (self.folder / "output").open("a") as output:
            return subprocess.Popen(
                [str(self.checkout / "launch" / "tpu_pod.sh"), *arguments],
                cwd=self.checkout,
                env=self.environment(user) | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @contextlib.contextmanager
    def running(self, *arguments: str, user: str = "user", **environment: str) -> Iterator[subprocess.Popen]:
        """Starts `launch/tpu_pod.sh`, and ends it however the test ends."""
        process = self.start(*arguments, user=user, **environment)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, *arguments: str, user: str = "user", **environment: str) -> tuple[int, str]:
        """Runs `launch/tpu_pod.sh` to its end; returns (exit status, what was printed meanwhile)."""
        before = len(self.output())
        with self.running(*arguments, user=user, **environment) as process:
            status = process.wait(timeout=LIMIT_SECONDS)
        return status, self.output()[before:]

    def output(self) -> str:
        """What all calls of the launcher have printed so far."""
        path = self.folder / "output"
        return path.read_text() if path.exists() else ""

    def starts(self, worker: int = 0) -> list[dict]:
        """How the trainer was started on a worker, one entry for each time."""
        path = self.trainer / f"starts-{worker}"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def started(self, workers=WORKERS) -> list[int]:
        """How often the trainer was started on each worker."""
        return [len(self.starts(worker)) for worker in workers]

    def job(self) -> dict:
        """What the keeper wrote of the job; empty where it has not."""
        return self.storage.json(BUCKET, f"{POD}/job.json") or {}

    def incarnations(self) -> list[str]:
        """The words of the slices that were asked for, in their order, as the service received them."""
        calls = [call for call in self.server.seen(r" POST /v2\w*/.*/queuedResources\?") if call.status == 200]
        return [call.body["tpu"]["nodeSpec"][0]["node"]["metadata"]["pod-incarnation"] for call in calls]

    def nothing_left(self) -> bool:
        """Whether the service holds nothing, no machine runs anything, and nobody has the run's lock."""
        held = self.storage.read(BUCKET, f"{POD}/lock.json")
        return self.tpu.holds == [] and self.machines.alive() == [] and held is None

    def logs(self) -> str:
        """What machines that are still there have written, for the report of a test that failed."""
        found = []
        for path in sorted(self.machines.folder.rglob("*")):
            if path.is_file() and path.name in ("startup.log", "agent.log", "setup.log", "log"):
                found.append(f"== {path.relative_to(self.machines.folder)}\n{path.read_text(errors='replace')[-2000:]}")
        return "\n".join(found)

    def close(self) -> None:
        """Ends everything."""
        self.meter.close()
        self.services.close()
        self.metadata.close()
        if self.trainers is not None:
            self.trainers.close()
