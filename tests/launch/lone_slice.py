"""A slice without anybody outside: its machines run the very startup script, and do what the bucket says."""

import contextlib
import dataclasses
import time
from pathlib import Path

from cloud.bed import POD
from cloud.machines import processes
from cloud.services import BUCKET, PROJECT, ZONE
from pod.checkout import archive_name, pack
from pod.plane.control import Bounds, Control, Job
from pod.plane.control_plane import ControlPlane
from pod.services.bucket import Bucket
from pod.services.endpoints import find_endpoints
from pod.services.service import Service, SliceRequest
from user import User

STARTUP = Path(__file__).parents[2] / "launch" / "pod" / "startup.sh"
BOUNDS = Bounds(
    poll_seconds=0.25,
    grace_seconds=2,
    stop_seconds=20,
    setup_seconds=30,
    heartbeat_seconds=10,
    stall_seconds=100,
    lock_seconds=1,
)


class Slice:
    """Two machines, asked for as a supervisor does that dies at once."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.endpoints = find_endpoints(cloud.services.environment)
        self.plane = ControlPlane(Bucket(BUCKET, User(), self.endpoints, patience=5), POD)
        self.service = Service(User(), PROJECT, ZONE, self.endpoints)
        self.control = Control(
            run="t",
            incarnation="first",
            want="run",
            job=Job("job-1", "key", ("--config=a b", "--b='\"$c"), self.bring_code()),
            queued_resource=f"projects/{PROJECT}/locations/{ZONE}/queuedResources/t",
            workers=2,
            max_restarts=3,
            idle_seconds=60,  # much longer than an agent takes to start again on a busy machine
            bounds=BOUNDS,
        )

    def bring_code(self) -> str:
        """Puts the checkout's files into the bucket; returns the archive's name."""
        content = pack(self.cloud.checkout)
        self.plane.bucket.write(self.plane.name(archive_name(content)), content)
        return archive_name(content)

    def ask(self, **changes) -> None:
        """Says what is wanted, and asks for the slice."""
        self.control = dataclasses.replace(self.control, **changes)
        self.want()
        metadata = {
            "pod-control": self.plane.url,
            "pod-incarnation": self.control.incarnation,
            "pod-code": self.control.job.code,
            "startup-script": STARTUP.read_text(),
        }
        self.service.create(SliceRequest("t", PROJECT, ZONE, "v5p-16", "v2-alpha-tpuv5", metadata=metadata))

    def want(self, **changes) -> None:
        """Changes what is wanted."""
        self.control = dataclasses.replace(self.control, **changes)
        self.plane.update_control(lambda _: self.control)

    @property
    def job(self):
        time.sleep(0.05)  # the bucket is there for the slice
        stored = self.plane.read_job()
        return None if stored is None else stored.value

    def is_running(self, times: int = 1) -> bool:
        """Whether all workers have said that they run the newest attempt, and trainers were started so often."""
        if self.cloud.started() != [times, times]:
            time.sleep(0.05)
            return False
        job = self.job
        reports = self.plane.workers(self.control.incarnation)
        return (
            job is not None
            and job.state == "running"
            and len(reports) == 2
            and all(report.state == "running" and report.attempt == job.attempt for report in reports.values())
        )

    def is_gone(self) -> bool:
        return self.cloud.tpu.holds == [] and self.cloud.machines.alive() == []

    def log(self, attempt: int = 1, worker: int = 0) -> str:
        """A log as it is in the bucket."""
        prefix = self.plane.name("slices", self.control.incarnation, f"attempt-{attempt}", f"worker-{worker}", "log-")
        return "".join(self.plane.bucket.read(item.name)[0].decode() for item in self.plane.bucket.list(prefix))

    def machine(self, worker: int):
        return self.cloud.machines.nodes["t"][worker]

    def agents(self, worker: int) -> list[int]:
        """The processes of the agent of a worker."""
        found = []
        for number in processes([self.machine(worker).name]):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if b"pod.agent" in Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0"):
                    found.append(number)
        return found
