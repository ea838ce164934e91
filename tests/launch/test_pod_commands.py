"""The other commands of `launch/tpu_pod.sh`: stop, resume, down, status, logs, simulate, and limits of time."""

import json
import signal
import subprocess

import pytest
from cloud import LIMIT_SECONDS, RUN, STAGES, fault, nothing_left, running, started, wait_until


def test_stop_and_resume(cloud):
    cloud.plan({"hold": True}, {})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        status, output = cloud.run("stop", "--name", "t")
        assert status == 0, output
        assert process.wait(LIMIT_SECONDS) == 75
    assert "stopped as asked" in cloud.output()
    assert [request["state"] for request in cloud.requests().values()] == ["ACTIVE"]
    status, output = cloud.run("resume", "--name", "t", "--yes")
    assert status == 0, output
    assert started(cloud) == [2, 2, 2, 2]
    assert nothing_left(cloud)


def test_resume_from_another_folder_by_a_relative_path(cloud):
    """As from a shell in the home folder; the run was started in the checkout."""
    assert cloud.run(*RUN, "--keep")[0] == 0
    command = ["a checkout/launch/tpu_pod.sh", "resume", "--name", "t", "--yes"]
    result = subprocess.run(command, cwd=cloud.folder, env=cloud.environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert started(cloud) == [1, 1, 1, 1]  # it had finished


def test_resume_takes_what_may_change_and_refuses_the_rest(cloud):
    assert cloud.run(*RUN)[0] == 0
    status, output = cloud.run("resume", "--name", "t", "--yes", "--keep")
    assert status == 0, output
    assert cloud.requests() != {}
    for arguments in (["--type", "v3-8"], ["--max-restarts=1"], ["--dry-run"], ["--", "--config.seed=1"]):
        status, output = cloud.run("resume", "--name", "t", "--yes", *arguments)
        assert status == 1
        assert f"it takes --name, --yes, --force, --keep and --no-plan, not {arguments[0]}" in output
        assert len(output.splitlines()) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_down_leaves_nothing_wherever_up_was_interrupted(cloud, stage):
    cloud.set_scenario(faults=[fault(stage, "kill", skip=int("describe" in stage))])
    cloud.plan({"hold": True})
    assert cloud.run(*RUN)[0] == -signal.SIGKILL
    status, output = cloud.run("down", "--name", "t")
    assert status == 0, output
    assert "nothing of t is running or billed any more" in output
    assert nothing_left(cloud)


def test_down_ends_the_supervisor_first(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        status, output = cloud.run("down", "--name", "t")
        assert status == 0, output
        assert process.wait(LIMIT_SECONDS) == 130
    assert nothing_left(cloud)


def test_down_says_when_something_may_still_be_billed(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        cloud.set_scenario(faults=[fault("queued-resources delete", "fail", text="UNAVAILABLE: 503")])
        status, output = cloud.run("down", "--name", "t")
    assert status == 1
    assert "It may still be billed" in output


def test_machines_that_outlive_their_request_are_deleted(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_SECONDS)
    with cloud.service.changing():
        request = cloud.service.state["requests"].pop("t")
        cloud.service.state["requests"]["another"] = request
    status, output = cloud.run("down", "--name", "t")
    assert status == 0, output
    assert cloud.alive() == []


def test_the_deadline_ends_job_and_slice(cloud):
    cloud.plan({"hold": True})
    status, output = cloud.run(*RUN, "--deadline", "0.001")
    assert status == 75, output
    assert "deadline" in output
    assert nothing_left(cloud)


@pytest.mark.parametrize("options", [[], ["--keep"]])
def test_the_deadline_ends_a_request_that_still_waits(cloud, options):
    cloud.set_scenario(lifecycles=[["WAITING_FOR_RESOURCES"]])
    status, output = cloud.run(*RUN, "--deadline", "0.0003", *options)
    assert status == 75, output
    assert cloud.created() == 1
    assert nothing_left(cloud)


def test_resume_after_the_deadline_ends_what_is_left(cloud):
    cloud.set_scenario(lifecycles=[["WAITING_FOR_RESOURCES"]])
    with running(cloud.start(*RUN, "--deadline", "1")) as process:
        wait_until(lambda: cloud.created() == 1, process)
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_SECONDS)
    (cloud.folder / "records" / "t" / "first-start").write_text("1")
    status, output = cloud.run("resume", "--name", "t", "--yes")
    assert status == 75, output
    assert nothing_left(cloud)
    assert not (cloud.folder / "records" / "t" / "first-start").exists()  # the next start has all its time


def test_a_job_is_asked_for_a_checkpoint_at_the_deadline_though_the_service_fails_for_a_moment(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN, "--deadline", "1")) as process:
        wait_until(lambda: "is running" in cloud.output() or all(started(cloud)), process)
        down = fault("queued-resources describe", "fail", text="UNAVAILABLE: 503", times=3)
        cloud.set_scenario(faults=[down, fault("worker.sh t stop", "fail", text="UNAVAILABLE: 503")])
        (cloud.folder / "records" / "t" / "first-start").write_text("1")
        assert process.wait(LIMIT_SECONDS) == 75, cloud.output()
    assert sum("worker.sh t stop" in " ".join(call) for call in cloud.calls()) == 2
    assert nothing_left(cloud)


def test_keep_leaves_the_slice_and_says_what_it_costs(cloud):
    status, output = cloud.run(*RUN, "--keep")
    assert status == 0, output
    assert "32.00 dollars an hour" in output
    assert [request["state"] for request in cloud.requests().values()] == ["ACTIVE"]
    # The next run finds its packages in place.
    status, output = cloud.run(*RUN, "--", "--config.seed=1")
    assert status == 0, output
    assert started(cloud) == [2, 2, 2, 2]
    assert cloud.created() == 1


def test_status_and_logs(cloud):
    metrics = cloud.service.folder / "buckets" / "bucket" / "runs" / "t" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    events = [
        {"event": "train", "step": 100, "images_per_second": 64.0},
        {"event": "evaluation", "step": 100, "ema_top1": 0.875, "raw_top1": 0.5},
    ]
    metrics.write_text("".join(json.dumps(event) + "\n" for event in events))
    cloud.plan({"status": 1}, {"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: started(cloud) == [2, 2, 2, 2], process)
        status, output = cloud.run("status", "--name", "t")
        assert status == 0, output
        assert "READY, v3-32" in output
        assert "job running, attempt 2" in output
        assert "step        100" in output
        assert "87.50% at the last evaluation" in output
        assert "1 after errors, 0 after preemptions, 0 new slices" in output
        status, output = cloud.run("logs", "--name", "t", "--worker", "3")
        assert status == 0, output
        assert "== worker 3 ==\nworker 3, start 2\n" in output
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0


def test_a_simulated_preemption_is_survived(cloud):
    cloud.plan({"hold": True}, {})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: all(started(cloud)), process)
        status, output = cloud.run("simulate", "--name", "t")
        assert status == 0, output
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert started(cloud) == [2, 2, 2, 2]
