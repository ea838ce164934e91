"""Supervisors of `launch/tpu_pod.sh` that end, and more than one of them."""

import shutil
import signal

import pytest
from cloud import LIMIT_SECONDS, RUN, STAGES, fault, met_faults, nothing_left, running, started, wait_until


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_supervisor_is_followed_by_another(cloud, stage):
    cloud.set_scenario(faults=[fault(stage, "kill", skip=int("describe" in stage))])
    cloud.plan({"hold": True})
    assert cloud.run(*RUN)[0] == -signal.SIGKILL
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert started(cloud) == [1, 1, 1, 1]
    assert cloud.created() == 1
    assert nothing_left(cloud)


def test_the_same_command_joins_the_running_job(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as first:
        wait_until(lambda: all(started(cloud)), first)
        first.send_signal(signal.SIGINT)
        assert first.wait(LIMIT_SECONDS) == 130
    assert "the job and the slice go on" in cloud.output()
    assert len(cloud.alive()) >= 4
    with running(cloud.start(*RUN)) as second:
        wait_until(lambda: "attempt 1 is running" in cloud.output(), second)
        cloud.release()
        assert second.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert started(cloud) == [1, 1, 1, 1]
    assert sum("scp" in call for call in cloud.calls()) == 1


def test_a_worker_that_is_busy_with_an_older_attempt_is_waited_for(cloud):
    """Attempt 2 never reached worker 2, on which attempt 1 is still ending when attempt 3 is started."""
    cloud.plan({"hold": True}, {})
    with running(cloud.start(*RUN)) as first:
        wait_until(lambda: all(started(cloud)), first)
        first.send_signal(signal.SIGINT)
        first.wait(LIMIT_SECONDS)
    for worker in (0, 1, 3):
        attempts = cloud.service.folder / "machines" / "t" / str(worker) / ".pods" / "t" / "attempts"
        shutil.copytree(attempts / "1", attempts / "2")
        (attempts / "2" / "status").write_text("75 1.0\n")
    (cloud.folder / "records" / "t" / "attempts").write_text("2")
    with running(cloud.start(*RUN)) as second:
        wait_until(lambda: "it has not started on all workers: another attempt is running" in cloud.output(), second)
        cloud.release()
        assert second.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert started(cloud) == [2, 2, 2, 2]


def test_a_job_with_other_arguments_is_not_joined(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as first:
        wait_until(lambda: all(started(cloud)), first)
        first.send_signal(signal.SIGTERM)
        first.wait(LIMIT_SECONDS)
    status, output = cloud.run(*RUN, "--", "--config.seed=1")
    assert status == 1
    assert "another job runs on t" in output
    assert started(cloud) == [1, 1, 1, 1]


def test_a_slice_of_another_type_is_left_alone(cloud):
    assert cloud.run(*RUN, "--keep")[0] == 0
    status, output = cloud.run(*RUN, "--type", "v5litepod-16")
    assert status == 1
    assert "the slice t is a v3-32, not a v5litepod-16" in output
    assert started(cloud) == [1, 1, 1, 1]


def test_a_login_that_expires_ends_nothing(cloud):
    text = "UNAUTHENTICATED: Please run: gcloud auth login"
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        cloud.set_scenario(faults=[fault("", "fail", text=text, times=8)])
        wait_until(lambda: met_faults(cloud)[0]["times"] == 0, process)
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert "log in again, the job goes on" in cloud.output()
    assert started(cloud) == [1, 1, 1, 1]


def test_two_supervisors_on_one_machine(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as first:
        wait_until(lambda: all(started(cloud)), first)
        status, output = cloud.run(*RUN)
        assert status == 1
        assert f"a supervisor of t runs already (process {first.pid})" in output
        cloud.release()
        assert first.wait(LIMIT_SECONDS) == 0


def test_two_supervisors_on_two_machines(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as first:
        wait_until(lambda: all(started(cloud)), first)
        status, output = cloud.run(*RUN, POD_RECORDS=str(cloud.folder / "another machine"))
        assert status == 1
        assert "gs://bucket/runs/t is supervised from" in output
        cloud.release()
        assert first.wait(LIMIT_SECONDS) == 0
    assert started(cloud) == [1, 1, 1, 1]


def test_a_supervisor_on_another_machine_takes_over_when_told_to(cloud):
    cloud.write_settings(LOCK_SECONDS="0")
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as first:
        wait_until(lambda: all(started(cloud)), first)
        with running(cloud.start(*RUN, "--force", POD_RECORDS=str(cloud.folder / "another machine"))) as second:
            assert first.wait(LIMIT_SECONDS) == 1
            assert "has taken over" in cloud.output()
            cloud.release()
            assert second.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert started(cloud) == [1, 1, 1, 1]
    assert nothing_left(cloud)


def test_down_names_a_supervisor_on_another_machine_and_leaves_its_slice(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        status, output = cloud.run("down", "--name", "t", POD_RECORDS=str(cloud.folder / "another machine"))
        assert status == 1
        assert "gs://bucket/runs/t is supervised from" in output
        assert len(cloud.requests()) == 1
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()


def test_down_by_force_ends_the_run_of_a_supervisor_on_another_machine(cloud):
    """That one finds its slice gone long before it would renew its lock; it must not ask for another."""
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        status, output = cloud.run("down", "--name", "t", "--force", POD_RECORDS=str(cloud.folder / "another machine"))
        assert status == 0, output
        assert process.wait(LIMIT_SECONDS) == 1
    assert "has taken over" in cloud.output()  # it looks while `down` holds the lock, or later
    assert cloud.created() == 1
    assert nothing_left(cloud)


def test_a_lock_that_is_gone_means_that_another_has_ended_the_run(cloud):
    cloud.write_settings(LOCK_SECONDS="0")
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        with cloud.service.changing():
            for lock in (cloud.service.folder / "buckets").rglob("*.lock"):
                lock.unlink()
        assert process.wait(LIMIT_SECONDS) == 1
    assert "the lock in gs://bucket/runs/t is gone" in cloud.output()
    assert len(cloud.requests()) == 1


def test_a_lock_that_cannot_be_read_for_a_moment_ends_nothing(cloud):
    cloud.write_settings(LOCK_SECONDS="0")
    text = "UNAVAILABLE: 503"
    faults = [
        fault("objects describe supervisor.lock", "fail", text=text),
        fault("cat supervisor.lock", "fail", text=text),
    ]
    cloud.set_scenario(faults=faults)
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)) and not any(item["times"] for item in met_faults(cloud)), process)
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert started(cloud) == [1, 1, 1, 1]


def test_down_deletes_the_slice_though_the_bucket_does_not_answer(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        process.kill()
        process.wait()
    cloud.set_scenario(faults=[fault("storage cp supervisor.lock", "fail", text="UNAVAILABLE: 503", times=9)])
    status, output = cloud.run("down", "--name", "t")
    assert status == 0, output
    assert "cannot take the lock in gs://bucket/runs/t" in output
    assert cloud.requests() == {}


def test_a_renewal_between_look_and_takeover_does_not_stop_it(cloud):
    """The other supervisor writes the lock before the first attempt, and renews it before the second."""
    cloud.set_scenario(faults=[fault("storage cp supervisor.lock", "take over", times=2)])
    status, output = cloud.run(*RUN, "--force")
    assert status == 0, output
    assert met_faults(cloud)[0]["times"] == 0
    assert started(cloud) == [1, 1, 1, 1]


def test_a_takeover_between_look_and_renewal_is_not_written_over(cloud):
    cloud.write_settings(LOCK_SECONDS="0")
    cloud.set_scenario(faults=[fault("storage cp supervisor.lock", "take over", skip=2)])
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        assert process.wait(LIMIT_SECONDS) == 1
    assert "another supervisor, on another, has taken over" in cloud.output()
    (lock,) = (cloud.service.folder / "buckets").rglob("*.lock")
    assert lock.read_text().startswith("another:")
