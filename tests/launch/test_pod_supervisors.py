"""Supervisors of `launch/tpu_pod.sh` that end, never come back, or are two: one job, ever, and nothing billed for nothing."""

import json
import os
import signal

import pytest
from cloud.bed import BUCKET, LIMIT_SECONDS, POD, RUN
from cloud.server import ApiError, Fault
from cloud.services import wait_until

# Where a supervisor is killed: before the request is handled, or when it has been and its answer is on the way.
STAGES = {
    "when it has asked": {"match": "user POST .*queuedResources", "after": True},
    "before the code is there": {"match": "user POST /upload", "before": True, "skip": 2},
    "while it watches": {"match": "user GET .*nodes/t", "after": True, "skip": 3},
}


def kill_at(cloud, match: str, before: bool = False, after: bool = False, skip: int = 0) -> None:
    """Has the supervisor that `run` or `start` starts next killed by its own request."""
    process: list = []

    def kill(_) -> None:
        os.kill(process[0], signal.SIGKILL)
        cloud.server.faults.clear()

    # Either the request never arrives, or it is carried out.
    how = {"before": kill, "reset": True} if before else {"after": kill}
    cloud.server.faults = [Fault(match, skip=skip, **how)]
    with cloud.running(*RUN) as started:
        process.append(started.pid)
        assert started.wait(LIMIT_SECONDS) == -signal.SIGKILL, cloud.output()


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_supervisor_is_followed_by_another_on_another_machine(cloud, stage):
    """A laptop, then a virtual machine where somebody else is logged in: one start of the trainer, one slice."""
    cloud.plan({"hold": True})
    kill_at(cloud, **STAGES[stage])
    with cloud.running(*RUN, "--force", user="another") as process:
        # It has seen what is there: a job that ends before that is followed by another.
        wait_until(lambda: cloud.output().count("; the deadline is ") == 2, process=process)
        wait_until(lambda: all(cloud.started()), process=process)
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.started() == [1, 1]
    assert cloud.tpu.created == 1
    assert cloud.nothing_left()


@pytest.mark.parametrize("crashes", [0, 1])
def test_with_the_supervisor_dead_the_job_finishes_and_the_slice_goes(cloud, crashes):
    """Killed right after creation, and never back."""
    cloud.plan(*[{"status": 134, "say": "a crash", "only": [1]}] * crashes, {})
    kill_at(cloud, "user POST .*queuedResources", after=True)
    wait_until(lambda: cloud.tpu.holds == [])
    assert cloud.started() == [1 + crashes] * 2
    assert cloud.job()["outcome"] == "finished"
    assert [call.who for call in cloud.server.seen("DELETE .*queuedResources/t")] == ["worker"]
    assert cloud.machines.alive() == []


def test_a_supervisor_that_dies_before_it_deletes_the_slice_leaves_nothing_either(cloud):
    kill_at(cloud, "user DELETE .*queuedResources", before=True)
    wait_until(lambda: cloud.tpu.holds == [])
    assert [call.who for call in cloud.server.seen("DELETE .*queuedResources/t")][-1] == "worker"
    assert cloud.started() == [1, 1]


def test_with_the_supervisor_dead_the_deadline_holds_too(cloud):
    cloud.plan({"hold": True})
    with cloud.running(*RUN, "--deadline", "0.004") as process:
        wait_until(lambda: all(cloud.started()), process=process)
    wait_until(lambda: cloud.tpu.holds == [])
    assert cloud.job()["outcome"] == "deadline"
    assert "saved" in json.dumps([cloud.storage.read(BUCKET, name).decode() for name in logs(cloud)])


def logs(cloud) -> list[str]:
    return [name for name in cloud.storage.names(BUCKET, f"{POD}/slices/") if "/log-" in name]


def test_two_supervisors_at_once_under_different_names_are_one_job(cloud):
    """Both are started together; one of them is told who has the run."""
    cloud.plan({"hold": True})
    with cloud.running(*RUN, user="one") as first, cloud.running(*RUN, user="two") as second:
        wait_until(lambda: all(cloud.started()))
        wait_until(lambda: None in (first.poll(), second.poll()) and (first.poll(), second.poll()) != (None, None))
        winner, loser = (first, second) if first.poll() is None else (second, first)
        assert loser.returncode == 1
        assert "supervised from" in cloud.output()
        cloud.release()
        assert winner.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.started() == [1, 1]
    assert cloud.tpu.created == 1
    assert len(cloud.incarnations()) == 1
    assert cloud.nothing_left()


def test_a_job_with_other_arguments_is_not_joined_and_another_type_is_left_alone(cloud):
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as first:
        wait_until(lambda: all(cloud.started()), process=first)
        os.kill(first.pid, signal.SIGTERM)
        first.wait(LIMIT_SECONDS)
    status, output = cloud.run(*RUN, "--", "--config.seed=1")
    assert status == 1
    assert "another job runs on t" in output
    status, output = cloud.run(*RUN, "--type", "v3-32")
    assert status == 1
    assert "the slice t is a v5p-16, not a v3-32" in output
    status, output = cloud.run("down", "--name", "t")
    assert status == 0, output
    assert cloud.started() == [1, 1]
    assert cloud.nothing_left()


def test_down_leaves_nothing_of_a_slice_that_was_just_asked_for(cloud):
    cloud.plan({"hold": True})
    kill_at(cloud, **STAGES["when it has asked"])
    status, output = cloud.run("down", "--name", "t")
    assert status == 0, output
    assert "nothing of t in europe-west4-a is running or billed any more" in output
    assert cloud.nothing_left()


def test_down_deletes_machines_that_outlive_their_request(cloud):
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as process:
        wait_until(lambda: all(cloud.started()), process=process)
    with cloud.tpu.lock:
        cloud.tpu.requests.clear()
    status, output = cloud.run("down", "--name", "t")
    assert status == 0, output
    assert cloud.nothing_left()


def test_down_ends_the_supervisor_here_and_by_force_one_elsewhere(cloud):
    """That one finds its slice gone; it must not ask for another."""
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as process:
        wait_until(lambda: all(cloud.started()), process=process)
        status, output = cloud.run("down", "--name", "t", "--workdir", "gs://bucket/runs/t", user="another")
        assert status == 1
        assert "supervised from" in output
        assert len(cloud.tpu.requests) == 1
        status, output = cloud.run("down", "--name", "t", "--force", "--workdir", "gs://bucket/runs/t", user="another")
        assert status == 0, output
        assert process.wait(LIMIT_SECONDS) == 1
    with cloud.running(*RUN) as process:
        wait_until(lambda: cloud.started() == [2, 2], process=process)
        status, output = cloud.run("down", "--name", "t")
        assert status == 0, output
        assert process.wait(LIMIT_SECONDS) == 130
    assert cloud.tpu.created == 2
    assert cloud.nothing_left()


def test_down_says_when_something_may_still_be_billed(cloud):
    cloud.write_settings(LONG_CALL_SECONDS="2", CALL_SECONDS="2")
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as process:
        wait_until(lambda: all(cloud.started()), process=process)
        with cloud.server.failing("DELETE .*queuedResources", error=ApiError("UNAVAILABLE", "not now")):
            status, output = cloud.run("down", "--name", "t")
        assert status == 1
        assert "billed" in output
        assert cloud.run("down", "--name", "t")[0] == 0
    assert cloud.nothing_left()


def test_down_works_though_the_bucket_does_not_answer(cloud):
    cloud.write_settings(CALL_SECONDS="1")
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as process:
        wait_until(lambda: all(cloud.started()), process=process)
    with cloud.server.failing("user .*/storage/v1/", error=ApiError("UNAVAILABLE", "not now")):
        status, output = cloud.run("down", "--name", "t", "--force")
    assert status == 1, output  # nothing says whether the run has a controller
    assert "cannot take the lock" in output
    assert "t-controller, which may still be billed" in output
    assert cloud.tpu.holds == []


def test_a_supervisor_that_slept_for_long_lets_go_of_what_another_has_taken(cloud):
    """A laptop that is closed and opened again."""
    cloud.plan({"hold": True})
    with cloud.running(*RUN, user="one") as first:
        wait_until(lambda: all(cloud.started()), process=first)
        status, output = cloud.run(*RUN, user="one")
        assert status == 1
        assert f"a supervisor of t runs already (process {first.pid})" in output
        os.killpg(first.pid, signal.SIGSTOP)
        with cloud.running(*RUN, "--force", user="two") as second:
            wait_until(lambda: "job: running" in cloud.output().rpartition("slice t")[2], process=second)
            os.killpg(first.pid, signal.SIGCONT)
            assert first.wait(LIMIT_SECONDS) == 1, cloud.output()
            assert "has taken over" in cloud.output()
            cloud.release()
            assert second.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.started() == [1, 1]
    assert cloud.tpu.created == 1
    assert cloud.nothing_left()
