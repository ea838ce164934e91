"""A checkout of the launcher beside a stand-in service, as a user's machine sees them."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fake_gcloud import machines, scenario
from fake_gcloud.service import Service

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 300  # for what takes seconds on a machine that is not loaded
SETTINGS = {
    "PROJECT": "project",
    "ZONE": "europe-west4-a",
    "BUCKET": "bucket",
    "POLL_SECONDS": "0.02",
    "GRACE_SECONDS": "1",
    "STOP_SECONDS": "5",
    "CALL_SECONDS": "60",
    "LONG_CALL_SECONDS": "120",
    "MAX_REQUESTS": "4",
    "PLAN": "no",  # it is tried by itself
}

RUN = ("up", "--config", "configs/quickstart.py", "--name", "t", "--type", "v3-32", "--yes")
WORKERS = range(4)
STAGES = (
    "queued-resources describe",
    "queued-resources create",
    "tpu-vm describe",
    "worker.sh t poll",
    "mkdir",
    "tpu-vm scp",
    "sha256sum",
    "worker.sh t setup",
    "worker.sh t start",
    "worker.sh t read",
)


class Cloud:
    """One user's machine and the service it talks to, below `folder`.

    Attributes:
      checkout: the checkout that `launch/tpu_pod.sh` runs from.
      service: the service's state.
      trainer: where the stand-in trainer is told what to do, and writes down how it was started.
    """

    def __init__(self, folder: Path, trainer: str = "stub_trainer"):
        self.folder = folder
        self.checkout = folder / "a checkout"
        self.trainer = folder / "trainer"
        self.service = Service(folder / "service")
        for path in (self.trainer, self.service.folder / "buckets" / "bucket", folder / "bin"):
            path.mkdir(parents=True)
        self._make_checkout(trainer)
        gcloud = folder / "bin" / "gcloud"
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        program = folder / "bin" / "gcloud.py"
        program.write_text(f"{code}from fake_gcloud.command_line import main\nmain()\n")
        gcloud.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{program}" "$@"\n')  # a path may have spaces
        gcloud.chmod(0o755)
        self.machines = {"FAKE_TRAINER": str(self.trainer), "FAKE_PYTHON": sys.executable}
        self.set_scenario()
        self.plan({})

    def _make_checkout(self, trainer: str) -> None:
        skipped = shutil.ignore_patterns("pod.env", ".venv", "__pycache__")
        for name in ("launch", "configs", "pipeline"):
            shutil.copytree(REPOSITORY / name, self.checkout / name, ignore=skipped)
        shutil.copy(REPOSITORY / "requirements.txt", self.checkout)
        if trainer == "stub_trainer":
            shutil.copy(Path(__file__).parent / "stub_trainer.py", self.checkout / "pipeline" / "train.py")
        (self.checkout / ".gitignore").write_text(".venv/\n/launch/pod.env\n__pycache__/\n")
        git = ["git", "-C", str(self.checkout)]
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "add", "-A"], check=True)
        python = self.checkout / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        shutil.copy(self.checkout / "requirements.txt", self.checkout / ".venv" / "requirements.txt")
        self.write_settings()

    def write_settings(self, **changes: str) -> None:
        """Writes launch/pod.env."""
        lines = [f"{key}={value}" for key, value in (SETTINGS | changes).items()]
        (self.checkout / "launch" / "pod.env").write_text("# settings\n" + "\n".join(lines) + "\n")

    def set_scenario(self, **changes) -> None:
        """Says how the service behaves; see `fake_gcloud/scenario.py`."""
        content = json.dumps(scenario.DEFAULTS | changes)
        (self.service.folder / "scenario.json").write_text(content)
        (self.service.folder / "machine_environment.json").write_text(json.dumps(self.machines))

    def plan(self, *entries: dict) -> None:
        """Says how the stand-in trainer behaves at its first, second, … start."""
        (self.trainer / "plan.json").write_text(json.dumps(entries))

    def release(self) -> None:
        """Lets trainers go on that hold."""
        (self.trainer / "release").touch()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the user's shell."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_", "CLOUDSDK_"))}
        path = os.pathsep.join([str(self.folder / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
        return kept | {
            "PATH": path,
            "FAKE_GCLOUD": str(self.service.folder),
            "POD_RECORDS": str(self.folder / "records"),
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Starts `launch/tpu_pod.sh` with these arguments."""
        output = (self.folder / "output").open("a")
        return subprocess.Popen(
            [str(self.checkout / "launch" / "tpu_pod.sh"), *arguments],
            cwd=self.checkout,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Runs `launch/tpu_pod.sh` to its end; returns (exit status, what it printed)."""
        before = len(self.output())
        status = self.start(*arguments, **environment).wait(timeout=LIMIT_SECONDS)
        return status, self.output()[before:]

    def output(self) -> str:
        """What all calls of the launcher have printed so far."""
        path = self.folder / "output"
        return path.read_text() if path.exists() else ""

    def calls(self) -> list[list[str]]:
        """The calls of gcloud so far, each as its arguments."""
        path = self.service.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def starts(self, worker: int = 0) -> list[dict]:
        """How the trainer was started on a worker, one entry for each time."""
        path = self.trainer / f"starts-{worker}"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def requests(self) -> dict:
        """The queued resources that are there."""
        with self.service.changing():
            return self.service.state["requests"]

    def created(self) -> int:
        """How many slices have been asked for."""
        with self.service.changing():
            return self.service.state["created"]

    def alive(self, node: str = "t") -> list[int]:
        """The processes on the machines of a slice."""
        return machines.processes(self.service.folder, node)

    def preempt(self, name: str = "t", **options) -> None:
        """Takes the slice's machines back now."""
        with self.service.changing():
            self.service.preempt(name, **options)

    def clean_up(self) -> None:
        """Ends whatever is left on the machines."""
        for node in (self.service.folder / "machines").glob("*"):
            machines.destroy(self.service.folder, node.name)


def wait_until(condition, process: subprocess.Popen | None = None, seconds: float = LIMIT_SECONDS) -> None:
    """Waits for a condition; fails when the process ends or the time is over before it holds."""
    end = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(f"the process ended with {process.returncode}")
        if time.monotonic() > end:
            raise AssertionError("it did not happen")
        time.sleep(0.02)


@contextlib.contextmanager
def running(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Ends a process group that a test started, however the test ends."""
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def essence(call: list[str]) -> str:
    """A call of gcloud in a few words: command and, on workers, what is done there."""
    command = next((argument for argument in call if argument.startswith("--command=")), "")
    remote = re.search(r"worker\.sh \S+ (\w+)|(mkdir)|(sha256sum)", command)
    words = [word for word in call if not word.startswith("--")]
    return " ".join([*words[:4], *([next(filter(None, remote.groups()))] if remote else [])])


def fault(call: str, do: str, **more) -> dict:
    """A fault of a call that contains the words `call`."""
    return {"call": call.replace(" ", ".*"), "do": do, **more}


def met_faults(cloud: Cloud) -> list[dict]:
    """The scenario's faults, with "times" for how often each is still to come."""
    with cloud.service.changing():
        return [{"times": 1} | item for item in cloud.service.scenario["faults"]]


def started(cloud: Cloud) -> list[int]:
    """How often the trainer was started on each worker."""
    return [len(cloud.starts(worker)) for worker in WORKERS]


def nothing_left(cloud: Cloud) -> bool:
    """Whether the service has no slice, no machine runs anything, and the run's folder is not locked."""
    locks = list((cloud.service.folder / "buckets").rglob("*.lock"))
    return cloud.requests() == {} and cloud.alive() == [] and locks == []
