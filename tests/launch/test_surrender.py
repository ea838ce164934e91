"""When a slice gives itself back: its machines delete it, without a supervisor or after one has died.

The `cloud` fixture checks after each test that no slice was ready for longer than the bound without a job, and that no two
slices ran one at the same time.
"""

import dataclasses
import time

import pytest
from cloud.server import Answer
from cloud.services import wait_until
from lone_slice import BOUNDS, Slice
from pod.clock import Clock
from pod.job.surrender import Surrender
from pod.plane.control import Supervisor
from user import User


@pytest.fixture
def slice_(cloud):
    return Slice(cloud)


def test_the_deadline_ends_job_and_slice(cloud, slice_):
    cloud.plan({"hold": True})
    slice_.ask()
    wait_until(slice_.is_running)
    slice_.want(deadline=time.time())
    wait_until(slice_.is_gone)
    assert (slice_.job.outcome, slice_.job.exit_code) == ("deadline", 75)
    assert "saved a checkpoint" in slice_.log()


def test_a_slice_that_may_not_run_the_job_ends_it_and_is_deleted(cloud, slice_):
    cloud.plan({"hold": True})
    slice_.ask(bounds=dataclasses.replace(BOUNDS, heartbeat_seconds=3))
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
    slice_.ask(idle_seconds=3)
    wait_until(slice_.is_gone)
    assert slice_.job is None


def test_a_slice_deletes_itself_only_and_says_when_it_may_not(cloud, slice_):
    cloud.plan({"hold": True})
    slice_.ask(incarnation="second", bounds=dataclasses.replace(BOUNDS, heartbeat_seconds=3))
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
