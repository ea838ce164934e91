"""What the machines of a slice do with its job while nobody supervises them.

The `cloud` fixture checks after each test that no slice was ready for longer than the bound without a job, and that no two
slices ran one at the same time.
"""

import base64
import dataclasses
import os
import signal
import time

import pytest
from cloud.server import Answer
from cloud.services import wait_until
from lone_slice import BOUNDS, Slice


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
    slice_.want(idle_seconds=1)
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
    slice_.ask()
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


def test_a_job_is_stopped_before_all_its_workers_have_started(cloud, slice_):
    """The agent of worker 1 sleeps while worker 0 starts and the job is stopped."""
    cloud.plan({"hold": True})
    held = cloud.trainer / "hold-setup-0-0"
    held.touch()
    slice_.ask()
    wait_until(lambda: (report := slice_.plane.workers("first").get(1)) is not None and report.state == "ready")
    (agent,) = slice_.agents(1)
    os.kill(agent, signal.SIGSTOP)
    held.unlink()
    wait_until(lambda: cloud.started() == [1, 0])
    slice_.want(want="stop")
    wait_until(lambda: slice_.job.ask == "stop")
    os.kill(agent, signal.SIGCONT)
    wait_until(lambda: slice_.job.state == "ended")
    assert slice_.job.outcome == "stopped"
    assert cloud.started() == [1, 0]


def test_a_trainer_that_hangs_is_ended(cloud, slice_):
    cloud.plan({"hold": True, "deaf": True}, {})
    slice_.ask(bounds=dataclasses.replace(BOUNDS, stall_seconds=6, grace_seconds=1))
    wait_until(slice_.is_gone)
    assert slice_.job.outcome == "finished"
    assert cloud.started() == [2, 2]
    assert {report.exit_code for report in slice_.plane.workers("first").values()} == {0}


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
