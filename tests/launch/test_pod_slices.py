"""Machines that vanish under `launch/tpu_pod.sh`, and requests that come to nothing."""

import os
import shutil
import signal

import pytest
from cloud import (
    LIMIT_SECONDS,
    RUN,
    STAGES,
    WORKERS,
    fault,
    met_faults,
    nothing_left,
    running,
    started,
    wait_until,
)


@pytest.mark.parametrize(
    "faults",
    [
        [fault("tpu-vm scp", "preempt during")],
        [fault("worker.sh t setup", "preempt during")],
        [fault("worker.sh t start", "preempt during")],
        [fault("worker.sh t poll", "preempt", skip=1, state="TERMINATED")],
        [
            fault("tpu-vm scp", "preempt during"),
            fault("worker.sh t read", "preempt"),
            fault("worker.sh t setup", "preempt during"),
        ],
    ],
)
def test_a_slice_that_was_taken_back_is_replaced(cloud, faults):
    cloud.set_scenario(faults=faults)
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: cloud.created() == 1 + len(faults) and cloud.alive(), process)
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.created() == 1 + len(faults)
    assert "the slice is gone" in cloud.output()
    assert nothing_left(cloud)


@pytest.mark.parametrize("state", ["PREEMPTED", "HIDDEN"])
def test_any_machine_that_is_not_ready_is_replaced_whatever_the_request_says(cloud, state):
    cloud.set_scenario(after_preemption=[], faults=[fault("worker.sh t poll", "preempt", state=state)])
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert cloud.created() == 2
    assert nothing_left(cloud)


@pytest.mark.parametrize("end", ["FAILED", "SUSPENDED", "SOMETHING_NEW"])
def test_a_request_that_came_to_nothing_is_made_again(cloud, end):
    cloud.set_scenario(lifecycles=[["WAITING_FOR_RESOURCES", end], ["ACTIVE"]])
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert end in output
    assert cloud.created() == 2


def test_requests_that_always_fail_end_the_run(cloud):
    cloud.set_scenario(lifecycles=[["FAILED"]])
    status, output = cloud.run(*RUN)
    assert status == 1
    assert "giving up: the slice failed 4 times" in output
    assert cloud.created() == 4
    assert nothing_left(cloud)


def test_what_is_left_of_a_failed_slice_is_deleted_at_the_end(cloud):
    """It could not be deleted while the run still tried; what is billed must not outlive the run."""
    faults = [fault("queued-resources delete", "fail", text="UNAVAILABLE: 503", times=4)]
    cloud.set_scenario(lifecycles=[["FAILED"]], faults=faults)
    status, output = cloud.run(*RUN, "--deadline", "9")
    assert status == 1
    assert "giving up: the slice failed 4 times" in output
    assert nothing_left(cloud)
    assert not (cloud.folder / "records" / "t" / "first-start").exists()


def test_a_slice_that_stays_half_made_is_made_again(cloud):
    cloud.write_settings(PROVISION_SECONDS="1")
    cloud.set_scenario(lifecycles=[["PROVISIONING"] * 200, ["ACTIVE"]])
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert "it has been PROVISIONING" in output
    assert cloud.created() == 2


QUOTA = "RESOURCE_EXHAUSTED: Quota limit 'TPUV3sPodPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 0 in zone."


def test_a_quota_that_is_not_free_yet_is_asked_for_again(cloud):
    cloud.set_scenario(faults=[fault("queued-resources create", "fail", text=QUOTA, times=2)])
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert output.count("the request was refused") == 2


def test_a_quota_that_is_never_free_ends_the_run(cloud):
    cloud.set_scenario(faults=[fault("queued-resources create", "fail", text=QUOTA, times=99)])
    status, output = cloud.run(*RUN)
    assert status == 1
    assert "giving up: the slice was refused 4 times" in output
    assert "Quota limit" in output


def test_a_slice_that_may_not_be_created_ends_the_run_at_once(cloud):
    text = "PERMISSION_DENIED: Permission 'tpu.nodes.create' denied"
    cloud.set_scenario(faults=[fault("queued-resources create", "fail", text=text, times=99)])
    status, output = cloud.run(*RUN)
    assert status == 1
    assert "not allowed to create the slice" in output
    assert "tpu.nodes.create" in output
    assert sum("create" in call for call in cloud.calls()) == 1


def test_a_set_up_that_always_fails_ends_the_run(cloud):
    """The slice is billed while it is tried."""
    cloud.write_settings(MAX_SETUPS="3")
    cloud.set_scenario(faults=[fault("worker.sh t setup", "fail", text="UNAVAILABLE: 503", times=99)])
    status, output = cloud.run(*RUN)
    assert status == 1
    line = next(line for line in output.splitlines() if "giving up" in line)
    assert "the workers could not be set up 3 times in a row: worker 0 gave no answer: " in line
    assert "UNAVAILABLE: 503" in line
    assert sum("worker.sh t setup" in " ".join(call) for call in cloud.calls()) == 3
    assert started(cloud) == [0, 0, 0, 0]
    assert nothing_left(cloud)


@pytest.mark.parametrize("end", ["saved", "finished"])
def test_a_worker_that_lost_its_files_gets_them_again(cloud, end):
    """The job goes on without it, or waits for it in vain."""
    cloud.plan({"hold": True}, {})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        home = cloud.service.folder / "machines" / "t" / "2"
        os.kill(cloud.starts(2)[0]["pid"], signal.SIGKILL)
        shutil.rmtree(home / ".pods", ignore_errors=True)
        shutil.rmtree(home / ".pods", ignore_errors=True)  # the wrapper may have written the status meanwhile
        if end == "finished":
            cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert "a worker has lost its files" in cloud.output()
    assert started(cloud) == [2, 2, 2, 2]
    assert cloud.created() == 1


def test_machines_that_come_back_from_repair_are_set_up_again(cloud):
    """What was mounted is not mounted any more; the packages and the files are still there."""
    cloud.plan({"hold": True}, {})
    with running(cloud.start(*RUN, "--data", "gs://bucket/data", "--mount")) as process:
        wait_until(lambda: "is running" in cloud.output() or all(started(cloud)), process)
        with cloud.service.changing():
            cloud.service.state["requests"]["t"]["node_coming"] = ["REPAIRING", "READY"]
        wait_until(lambda: "REPAIRING" in cloud.output(), process)
        for worker in WORKERS:
            os.kill(cloud.starts(worker)[0]["pid"], signal.SIGKILL)
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert started(cloud) == [2, 2, 2, 2]
    assert cloud.created() == 1
    assert sum("worker.sh t mount" in " ".join(call) for call in cloud.calls()) == 2


def test_calls_that_fail_for_a_moment_change_nothing(cloud):
    """Each call of a run fails twice, some of them at the first look and some in the middle."""
    text = "UNAVAILABLE: The service is currently unavailable."
    faults = [fault(stage, "fail", text=text, times=2, skip=int("describe" in stage)) for stage in STAGES]
    cloud.set_scenario(faults=faults)
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)) and not any(item["times"] for item in met_faults(cloud)), process)
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert started(cloud) == [1, 1, 1, 1]
    assert cloud.created() == 1


def test_a_call_that_hangs_is_given_up_and_made_again(cloud):
    cloud.write_settings(CALL_SECONDS="1")
    cloud.set_scenario(faults=[fault("worker.sh t poll", "hang", skip=1)])
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert "no answer in 1 seconds" in output
    assert started(cloud) == [1, 1, 1, 1]
