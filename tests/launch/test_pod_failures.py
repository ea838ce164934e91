"""A job under `launch/tpu_pod.sh` that fails: which failure is whose, and what follows."""

import signal

import pytest
from cloud import RUN, nothing_left, started


@pytest.mark.parametrize(
    ("status", "said"),
    [(78, "the configuration cannot work"), (65, "data is missing or damaged"), (70, "training must not go on")],
)
def test_what_a_restart_cannot_help_ends_the_run_with_its_reason(cloud, status, said):
    cloud.plan({"status": status, "only": [2], "say": "Error: this is why"})
    result, output = cloud.run(*RUN)
    assert result == status, output
    assert said in output
    assert "Worker 2 said" in output
    assert "Error: this is why" in output
    assert started(cloud) == [1, 1, 1, 1]
    assert nothing_left(cloud)


def test_too_little_memory_ends_the_run(cloud):
    said = "jaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm"
    cloud.plan({"status": 1, "say": said})
    status, output = cloud.run(*RUN)
    assert status == 70
    assert "does not fit the memory" in output
    assert started(cloud) == [1, 1, 1, 1]


def test_a_job_that_was_preempted_is_started_again_without_being_counted(cloud):
    cloud.plan(*[{"status": 75}] * 3, {})
    status, output = cloud.run(*RUN, "--max-restarts", "0")
    assert status == 0, output
    assert started(cloud) == [4, 4, 4, 4]


@pytest.mark.parametrize("end", [134, -signal.SIGKILL])
def test_a_crash_of_one_worker_restarts_all(cloud, end):
    """The others wait for the lost one for ever; they are asked to save, then all start again."""
    cloud.plan({"status": int(end), "only": [1], "say": "a crash"}, {})
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert "worker 1 failed first" in output
    assert "a crash" in output
    assert started(cloud) == [2, 2, 2, 2]


def test_of_several_workers_the_one_that_failed_first_is_named(cloud):
    """The others fail because of it, with errors of their own, and one of them may have a lower number."""
    cloud.write_settings(GRACE_SECONDS="20")
    cloud.plan({"status": 134, "only": [2], "then": 1, "say": "the cause"}, {})
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert "worker 2 failed first (status 134)" in output
    assert "the cause" in output
    assert started(cloud) == [2, 2, 2, 2]


def test_crashes_are_bounded(cloud):
    cloud.plan({"status": 1, "say": "a crash"})
    status, output = cloud.run(*RUN, "--max-restarts", "2")
    assert status == 1
    assert "giving up" in output
    assert started(cloud) == [3, 3, 3, 3]
    assert nothing_left(cloud)


def test_a_silent_job_is_ended_and_started_again(cloud):
    cloud.write_settings(STALL_SECONDS="1")
    cloud.plan({"hold": True}, {})
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert "has logged nothing" in output
    assert started(cloud) == [2, 2, 2, 2]


def test_workers_that_outlive_the_others_are_ended(cloud):
    cloud.write_settings(GRACE_SECONDS="0")
    cloud.plan({"only": [0, 2, 3]}, {})
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert "1 workers have not ended with the others" in output
    assert started(cloud) == [2, 2, 2, 2]
