"""A slice without anybody outside: its machines run the very startup script, and do what the bucket says.

Nobody supervises here but where a test says so. The `cloud` fixture checks after each test that no slice was ready for longer
than the bound without a job, and that no two slices ran one at the same time.
"""

import base64
import contextlib
import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest
from cloud.bed import POD
from cloud.machines import processes
from cloud.server import Answer
from cloud.services import BUCKET, PROJECT, ZONE, wait_until
from pod.checkout import archive_name, pack
from pod.clock import Clock
from pod.job.surrender import Surrender
from pod.plane.control import Bounds, Control, Job, Supervisor
from pod.plane.control_plane import ControlPlane
from pod.services.bucket import Bucket
from pod.services.endpoints import find_endpoints
from pod.services.service import Service, SliceRequest
from user import User

STARTUP = Path(__file__).parents[2] / "launch" / "pod" / "startup.sh"
BOUNDS = Bounds(
    poll_seconds=0.1,
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
            idle_seconds=3,
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
        job = self.job
        if self.cloud.started() != [times, times]:
            return False
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


@pytest.fixture
def slice_(cloud):
    return Slice(cloud)


def test_a_job_with_secrets_finishes_and_the_slice_is_gone(cloud, slice_):
    cloud.plan({"hold": True, "say": "a last line"})
    content = b'{"GIVEN_A": "one", "GIVEN_B": "with \'quotes\' and\\nlines"}'
    slice_.plane.bucket.write(slice_.plane.name("environment-word"), content)
    secret = "projects/p/secrets/s"

    def secrets(call):
        if call.path != f"/v1/{secret}/versions/latest:access":
            return None
        return Answer(200, {"payload": {"data": base64.b64encode(b"from the manager").decode()}})

    cloud.server.handlers.insert(0, secrets)
    job = dataclasses.replace(
        slice_.control.job, environment="environment-word", secrets={"GIVEN_C": secret}, mount="photos"
    )
    slice_.ask(job=job)
    wait_until(slice_.is_running)
    wait_until(lambda: slice_.plane.bucket.read(slice_.plane.name("environment-word")) is None)
    private = slice_.machine(1).home / ".pod" / "environment.json"
    assert private.stat().st_mode & 0o777 == 0o600
    assert (slice_.machine(0).home / "mounts").read_text().split()[-2:] == [
        "photos",
        str(slice_.machine(0).home / ".pod" / "data"),
    ]
    wait_until(lambda: "worker 0, start 1" in slice_.log())
    looks = len(cloud.server.seen(r"worker GET .*control\.json"))
    calls = len(cloud.server.seen("^worker "))
    wait_until(lambda: len(cloud.server.seen(r"worker GET .*control\.json")) >= looks + 40)
    looks = len(cloud.server.seen(r"worker GET .*control\.json")) - looks
    assert len(cloud.server.seen("^worker ")) - calls < 4.5 * looks, "three requests a look, and five on worker 0"
    cloud.release()
    wait_until(slice_.is_gone)
    assert (slice_.job.state, slice_.job.outcome, slice_.job.exit_code) == ("ended", "finished", 0)
    assert cloud.started() == [1, 1]
    for worker in (0, 1):
        start = cloud.starts(worker)[0]
        assert start["argv"] == ["--config=a b", "--b='\"$c"]
        assert start["environment"] == {
            "GIVEN_A": "one",
            "GIVEN_B": "with 'quotes' and\nlines",
            "GIVEN_C": "from the manager",
        }
    assert slice_.log().endswith("a last line\n")
    assert slice_.log(worker=1) == "", "another log than worker 0's stays on its machine when all is well"


def test_a_job_goes_on_after_a_crash_and_after_an_agent_was_killed(cloud, slice_):
    cloud.plan({"status": 1, "say": "Traceback: boom", "only": [1], "then": 1}, {"hold": True})
    slice_.ask()
    wait_until(lambda: slice_.is_running(2) and slice_.job.attempt == 2)
    assert slice_.job.restarts == 1
    assert "worker 1 failed first (status 1)" in slice_.job.message or slice_.job.message == ""
    assert "Traceback: boom" in slice_.log(worker=1), "the log of a worker that failed is in the bucket"
    for worker in (0, 1):
        for number in slice_.agents(worker):
            os.kill(number, signal.SIGKILL)
    wait_until(lambda: slice_.agents(0) and slice_.agents(1))
    cloud.release()
    wait_until(slice_.is_gone)
    assert slice_.job.outcome == "finished"
    assert cloud.started() == [2, 2]


def test_a_notice_asks_the_trainer_once(cloud, slice_):
    cloud.plan({"hold": True, "saving": 0.5}, {"hold": True})
    slice_.ask()
    wait_until(slice_.is_running)
    cloud.machines.notify("t", "instance/maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")
    cloud.machines.notify("t", "instance/preempted", "TRUE")
    slice_.want(want="stop")
    wait_until(lambda: slice_.job.state == "ended")
    reports = slice_.plane.workers("first")
    assert [report.exit_code for report in reports.values()] == [75, 75], "asked twice it would not have saved"
    assert slice_.job.outcome == "stopped"
    wait_until(slice_.is_gone)  # a slice that was only stopped is not kept for ever


def test_a_machine_that_is_about_to_go_starts_nothing(cloud, slice_):
    cloud.plan({"hold": True})
    slice_.ask()
    wait_until(slice_.is_running)
    slice_.machine(1).metadata.set("instance/maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")
    slice_.machine(0).metadata.set("instance/maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")
    wait_until(lambda: "was told: maintenance" in slice_.job.message)
    assert slice_.job.preemptions == 1
    assert cloud.started() == [1, 1]
    cloud.machines.notify("t", "instance/maintenance-event", "NONE")
    wait_until(lambda: slice_.is_running(2) and slice_.job.attempt == 2)
    cloud.release()
    wait_until(slice_.is_gone)


def test_a_job_is_stopped_and_goes_on_with_other_code(cloud, slice_):
    cloud.plan({"hold": True}, {})
    slice_.ask(idle_seconds=60)
    wait_until(slice_.is_running)
    slice_.want(want="stop")
    wait_until(lambda: slice_.job.state == "ended")
    assert (slice_.job.outcome, slice_.job.exit_code) == ("stopped", 75)
    assert cloud.tpu.node() is not None, "the slice stays"
    (cloud.checkout / "configs" / "quickstart.py").write_text("# changed\n")
    job = dataclasses.replace(slice_.control.job, id="job-2", code=slice_.bring_code(), arguments=("--new",))
    slice_.want(want="run", job=job)
    wait_until(slice_.is_gone)
    assert (slice_.job.job, slice_.job.outcome, slice_.job.attempt) == ("job-2", "finished", 2)
    for worker in (0, 1):
        first, second = cloud.starts(worker)
        assert second["argv"] == ["--new"]
        assert second["cwd"].endswith(job.code[: -len(".tar.gz")])
        assert second["cwd"] != first["cwd"]


def test_the_deadline_ends_job_and_slice(cloud, slice_):
    cloud.plan({"hold": True})
    slice_.ask()
    wait_until(slice_.is_running)
    slice_.want(deadline=time.time())
    wait_until(slice_.is_gone)
    assert (slice_.job.outcome, slice_.job.exit_code) == ("deadline", 75)
    assert "saved a checkpoint" in slice_.log()


def test_a_trainer_that_hangs_is_ended(cloud, slice_):
    cloud.plan({"hold": True, "deaf": True}, {})
    slice_.ask(bounds=dataclasses.replace(BOUNDS, stall_seconds=2, grace_seconds=1))
    wait_until(slice_.is_gone)
    assert slice_.job.outcome == "finished"
    assert cloud.started() == [2, 2]
    assert {report.exit_code for report in slice_.plane.workers("first").values()} == {0}


def test_a_slice_that_may_not_run_the_job_ends_it_and_is_deleted(cloud, slice_):
    cloud.plan({"hold": True})
    slice_.ask(bounds=dataclasses.replace(BOUNDS, heartbeat_seconds=1))
    wait_until(slice_.is_running)
    slice_.want(incarnation="second")
    wait_until(lambda: cloud.meter.running() == set())
    wait_until(slice_.is_gone)
    assert slice_.job.incarnation == "first"
    assert cloud.started() == [1, 1]


def test_a_slice_without_a_tpu_waits_for_its_supervisor_and_is_given_back_without_one(cloud, slice_):
    (cloud.trainer / "sick-0").touch()
    slice_.ask(supervisor=Supervisor("me", time.time()), idle_seconds=30, max_restarts=20)
    wait_until(lambda: slice_.job is not None and slice_.job.state == "ended")
    assert slice_.job.outcome == "sick_slice"
    assert "open(/dev/vfio/0): Device or resource busy" in slice_.job.message
    assert slice_.job.attempt == 2
    wait_until(slice_.is_gone)  # the supervisor's last sign of life gets old
    assert (slice_.job.outcome, slice_.job.retries, slice_.job.attempt) == ("sick_slice", 3, 8)
    assert cloud.started() == [0, 0]


def test_without_worker_0_another_one_gives_the_slice_back(cloud, slice_):
    cloud.machines.silent.add((0, 0))
    slice_.ask()
    wait_until(slice_.is_gone)
    assert slice_.job is None


def test_machines_that_reboot_join_the_next_attempt(cloud, slice_):
    cloud.plan({"hold": True})
    slice_.ask()
    wait_until(slice_.is_running)
    cloud.machines.reboot("t", 0)  # as after a power cut
    wait_until(lambda: slice_.is_running(2) and slice_.job.attempt == 2)
    assert (slice_.job.restarts, slice_.job.preemptions) == (1, 0)
    systemctl = cloud.machines.folder / "bin" / "systemctl"
    systemctl.write_text('#!/bin/sh\n[ "$*" = is-system-running ] && echo stopping\n')
    systemctl.chmod(0o755)
    for number in slice_.agents(1):
        os.kill(number, signal.SIGTERM)  # as systemd does when the machine is shut down
    wait_until(lambda: slice_.plane.workers("first")[1].exit_code == 75)
    cloud.machines.reboot("t", 1)
    wait_until(lambda: slice_.is_running(3) and slice_.job.attempt == 3)
    assert (slice_.job.restarts, slice_.job.preemptions) == (1, 1)
    cloud.release()
    wait_until(slice_.is_gone)
    assert slice_.job.outcome == "finished"


def test_a_bucket_that_cannot_be_reached_stops_nothing(cloud, slice_):
    cloud.plan({"hold": True})
    slice_.ask(bounds=dataclasses.replace(BOUNDS, heartbeat_seconds=4))
    wait_until(slice_.is_running)
    pids = [start["pid"] for worker in (0, 1) for start in cloud.starts(worker)]
    with cloud.server.failing("storage/v1", hang=True):
        time.sleep(5)  # longer than a worker may be silent
    for how in ({"error": Answer(503, b"")}, {"reset": True}):
        with cloud.server.failing("storage/v1", **how) as fault:
            wait_until(lambda: fault.met >= 6)
    cloud.release()
    wait_until(slice_.is_gone)
    assert slice_.job.outcome == "finished"
    assert [start["pid"] for worker in (0, 1) for start in cloud.starts(worker)] == pids


def test_a_slice_deletes_itself_only_and_says_when_it_may_not(cloud, slice_):
    cloud.plan({"hold": True})
    slice_.ask(incarnation="second", bounds=dataclasses.replace(BOUNDS, heartbeat_seconds=1))
    wait_until(slice_.is_running)
    surrender = Surrender(
        "first", User(), slice_.endpoints, Clock()
    )  # as on a machine of an earlier slice of that name
    surrender.attempt(slice_.control.queued_resource)
    assert "that of a later slice" in surrender.message
    denied = Answer(403, {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "no tpu.nodes.delete"}})
    with cloud.server.failing("worker DELETE .*queuedResources", error=denied):
        cloud.release()
        wait_until(lambda: "cannot delete the slice" in slice_.job.message)
    assert "roles/tpu.admin" in slice_.job.message
    assert slice_.job.outcome == "finished"
    wait_until(slice_.is_gone)
    assert cloud.server.seen("user DELETE .*queuedResources") == []


def test_what_keeps_a_machine_from_starting_is_tried_again(cloud, slice_):
    name = slice_.plane.name(slice_.control.job.code)
    good = slice_.plane.bucket.read(name)[0]
    slice_.plane.bucket.write(name, good[:-1] + b"?")
    (cloud.trainer / "fail-setup-1").touch()
    slice_.ask()
    wait_until(lambda: "cannot fetch the code yet" in cloud.logs())
    assert "computed checksum did NOT match" in cloud.logs()
    slice_.plane.bucket.write(name, good)
    wait_until(slice_.is_gone)
    assert slice_.job.outcome == "finished"
    assert not (cloud.trainer / "fail-setup-1").exists()
