"""Slices under `launch/tpu_pod.sh` that vanish, fail, are sick, or are refused. What follows from each state and error is in
the table of `test_slice_decisions.py`; here are the ways that go through the whole.
"""

import shutil

import pytest
from cloud.bed import LIMIT_SECONDS, RUN
from cloud.server import Answer, ApiError, Fault
from cloud.services import wait_until
from cloud.tpu_errors import permission_error, quota_error

UNAVAILABLE = ApiError("UNAVAILABLE", "The service is currently unavailable.")


def test_slices_that_are_taken_back_are_replaced_wherever_they_are(cloud):
    """During the set-up, as a trainer starts, while it runs, and twice with the request still saying ACTIVE."""
    (cloud.trainer / "hold-setup-0").touch()
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as process:
        wait_until(lambda: (cloud.trainer / "in-setup-0-1").exists(), process=process)
        cloud.tpu.preempt()
        wait_until(lambda: any(cloud.started()), process=process)
        cloud.tpu.preempt(node_state="TERMINATED", then=())
        wait_until(lambda: {number for number, _ in cloud.meter.running()} == {2}, process=process)
        for state in ("PREEMPTED", "HIDDEN"):
            number = len(cloud.incarnations()) - 1
            cloud.tpu.preempt(node_state=state, then=())
            wait_until(lambda number=number: {now for now, _ in cloud.meter.running()} == {number + 1}, process=process)
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert len(cloud.incarnations()) == 5
    assert len(set(cloud.incarnations())) == 5
    assert cloud.nothing_left()


def test_requests_that_come_to_nothing_are_made_again(cloud):
    """FAILED for want of capacity, SUSPENDED by the service before it was ready, and one whose valid time is over."""
    cloud.tpu.lifecycles = [
        ["WAITING_FOR_RESOURCES", "FAILED"],
        ["ACCEPTED", ("SUSPENDED", "SERVICE")],
        ["WAITING_FOR_RESOURCES"],
        ["PROVISIONING", "ACTIVE"],
    ]
    status, output = cloud.run(*RUN, "--valid-until", "0.0006")
    assert status == 0, output
    assert "no more capacity" in output
    assert len(cloud.incarnations()) == 4
    assert cloud.started() == [1, 1]
    assert cloud.nothing_left()


@pytest.mark.parametrize("where", ["the node", "the request"])
def test_what_a_user_deletes_is_not_asked_for_again(cloud, where):
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as process:
        wait_until(lambda: all(cloud.started()), process=process)
        if where == "the node":
            cloud.tpu.delete_node_as_user()
        else:
            cloud.tpu.delete_request_as_user()
        assert process.wait(LIMIT_SECONDS) != 0, cloud.output()
    assert "deleted" in cloud.output()
    assert len(cloud.incarnations()) == 1
    assert cloud.nothing_left()


def test_quota_is_waited_for_and_a_permission_is_not(cloud):
    with cloud.server.failing("user POST .*queuedResources", error=quota_error(), times=2):
        status, output = cloud.run(*RUN)
    assert status == 0, output
    assert "Quota limit" in output
    with cloud.server.failing("user POST .*queuedResources", error=permission_error()) as fault:
        status, output = cloud.run(*RUN)
    assert status == 1, output
    assert "tpu.nodes.create" in output
    assert fault.met == 1
    assert len(cloud.incarnations()) == 1
    assert cloud.nothing_left()


def test_calls_that_fail_for_a_while_change_nothing(cloud):
    """Every kind of call, of the user and of the workers: 503, 429, a reset, and no answer at all."""
    cloud.write_settings(CALL_SECONDS="60")
    faults = [
        *(("queuedResources/t", {"error": UNAVAILABLE}), ("nodes/t", {"error": UNAVAILABLE})),
        *(("POST .*queuedResources", {"error": UNAVAILABLE}), ("DELETE .*queuedResources", {"reset": True})),
        *(
            ("GET .*control.json", {"reset": True}),
            ("GET .*job.json", {"error": Answer(429, {}, {"Retry-After": "1"})}),
        ),
        *(("POST /upload", {"error": UNAVAILABLE}), ("GET .*code-", {"error": UNAVAILABLE})),
        *(("worker GET .*/o\\?", {"error": UNAVAILABLE}), ("worker POST /upload", {"reset": True})),
        ("lock.json", {"error": UNAVAILABLE}),
    ]
    cloud.server.faults = [Fault(match, times=2, skip=number % 3, **how) for number, (match, how) in enumerate(faults)]
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as process:
        wait_until(lambda: all(cloud.started()), process=process)
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert sum(fault.met for fault in cloud.server.faults) > len(faults)
    assert cloud.started() == [1, 1]
    assert len(cloud.incarnations()) == 1
    assert cloud.nothing_left()


def test_a_request_that_was_carried_out_and_not_answered_is_not_made_twice(cloud):
    """The answer to the creation is lost on the way back."""

    def lose(call) -> None:
        raise ConnectionResetError

    cloud.server.faults = [
        Fault("user POST .*queuedResources", after=lose),
        Fault("user POST /upload", after=lose, skip=2),
    ]
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert cloud.tpu.created == 1
    assert cloud.started() == [1, 1]
    assert cloud.nothing_left()


def test_an_expired_login_ends_nothing(cloud):
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as process:
        wait_until(lambda: all(cloud.started()), process=process)
        user = cloud.server.tokens.pop("ya29.the-user")
        before = len(cloud.server.calls)
        wait_until(lambda: sum(call.status == 401 for call in cloud.server.calls[before:]) > 3, process=process)
        cloud.server.tokens["ya29.the-user"] = user
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.started() == [1, 1]
    assert cloud.nothing_left()


def test_a_worker_that_reboots_goes_on_and_one_that_lost_its_disk_is_set_up_again(cloud):
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as process:
        wait_until(lambda: cloud.started() == [1, 1], process=process)
        cloud.machines.reboot("t", 1)
        wait_until(lambda: cloud.started() == [2, 2], process=process)
        home = cloud.machines.nodes["t"][0].home
        cloud.machines.stop("t", 0)
        shutil.rmtree(home / ".pod")
        cloud.machines.reboot("t", 0)
        wait_until(lambda: cloud.started() == [3, 3], process=process)
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert len(cloud.incarnations()) == 1
    assert cloud.nothing_left()


def test_a_worker_that_freezes_costs_its_slice(cloud):
    """It is worker 1; one that never comes up, and a TPU that does not initialise, are in `test_training.py`."""
    cloud.write_settings(HEARTBEAT_SECONDS="5", STALL_SECONDS="7")
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as process:
        wait_until(lambda: all(cloud.started()), process=process)
        cloud.machines.freeze("t", 1)
        wait_until(lambda: {now for now, _ in cloud.meter.running()} == {1}, process=process)
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.nothing_left()


def test_a_node_in_repair_is_waited_for(cloud):
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as process:
        wait_until(lambda: all(cloud.started()), process=process)
        for state in ("REPAIRING", "RESTARTING", "UNHIDING"):
            cloud.tpu.set_node_state("t", state)
            wait_until(lambda state=state: state in cloud.output(), process=process)
        cloud.tpu.set_node_state("t", "READY")
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert len(cloud.incarnations()) == 1
    assert cloud.nothing_left()
