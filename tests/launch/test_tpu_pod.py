"""`launch/tpu_pod.sh` against the stand-in service: the way through, and each way that it can go wrong."""

import json
import shlex
import signal

import pytest
from cloud import LIMIT_SECONDS, essence, running, wait_until
from fake_gcloud import machines

RUN = ("up", "--config", "configs/quickstart.py", "--name", "t", "--type", "v3-32", "--yes")
WORKERS = range(4)
STAGES = (
    "queued-resources describe",
    "queued-resources create",
    "tpu-vm describe",
    "worker.sh t poll",
    "mkdir",
    "tpu-vm scp",
    "sha256sum",
    "worker.sh t setup",
    "worker.sh t start",
    "worker.sh t read",
)


def fault(call: str, do: str, **more) -> dict:
    """A fault of a call that contains the words `call`."""
    return {"call": call.replace(" ", ".*"), "do": do, **more}


def started(cloud) -> list[int]:
    """How often the trainer was started on each worker."""
    return [len(cloud.starts(worker)) for worker in WORKERS]


def nothing_left(cloud) -> bool:
    """Whether the service has no slice, no machine runs anything, and the run's folder is not locked."""
    locks = list((cloud.service.folder / "buckets").rglob("*.lock"))
    return cloud.requests() == {} and cloud.alive() == [] and locks == []


# The way through.


def test_trains_to_the_end_and_leaves_nothing_behind(cloud):
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert started(cloud) == [1, 1, 1, 1]
    assert cloud.starts()[0]["argv"] == ["--config=configs/quickstart.py", "--workdir=gs://bucket/runs/t"]
    assert "worker 0, start 1\ndone\n" in output
    assert nothing_left(cloud)


def test_a_dry_run_prints_what_a_real_run_calls(cloud):
    cloud.set_scenario(lifecycles=[["ACTIVE"]], node_states=["READY"])
    status, output = cloud.run(*RUN, "--dry-run", "--", "--config.seed=7")
    assert status == 0, output
    printed = [line for line in output.splitlines() if line.startswith("gcloud ")]
    assert cloud.calls() == []
    # A job that is finished as soon as it is started, as in the dry run: each look at it comes once.
    cloud.plan({})
    status, output = cloud.run(*RUN, "--", "--config.seed=7")
    assert status == 0, output
    called = []
    for call in cloud.calls():
        called.append(call)
        rounds = [essence(each) for each in called[-4:]]
        if rounds == [*rounds[:3], "compute tpus tpu-vm ssh read"] and called[-4:] == called[-8:-4]:
            del called[-4:]
    assert [shlex.split(line)[1:] for line in printed] == called


def test_a_dry_run_needs_no_gcloud(cloud):
    (cloud.folder / "bin" / "gcloud").unlink()
    status, output = cloud.run(*RUN, "--dry-run", PATH="/usr/bin:/bin")
    assert status == 0, output
    assert not (cloud.folder / "records").exists()


def test_the_slice_is_what_was_asked_for(cloud):
    cloud.set_scenario(types={"v5litepod-16": 4})
    arguments = ("--config=configs/quickstart.py", "--name=t", "--type=v5litepod-16", "--spot", "--yes")
    status, output = cloud.run(*arguments)
    assert status == 0, output
    create = next(call for call in cloud.calls() if "create" in call)
    assert {"--spot", "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"} <= set(create)


# Machines that vanish, and requests that come to nothing.


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


def met_faults(cloud) -> list[dict]:
    """The scenario's faults, with "times" for how often each is still to come."""
    with cloud.service.changing():
        return [{"times": 1} | item for item in cloud.service.scenario["faults"]]


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


# Connections that break.


@pytest.mark.parametrize("do", ["reconnect", "cut off", "cut off after"])
def test_broken_connections_start_no_second_job(cloud, do):
    """To one worker, at each stage: broken and made again, before the command ran, and after it ran."""
    stages = ["sha256sum", "worker.sh t setup", "worker.sh t start", "worker.sh t poll"]
    cloud.set_scenario(faults=[fault("mkdir", do, worker="all"), *(fault(stage, do, worker=2) for stage in stages)])
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert not any(item["times"] for item in met_faults(cloud))
    assert started(cloud) == [1, 1, 1, 1]


def test_an_attempt_that_has_ended_is_not_started_by_a_late_repetition(cloud):
    """gcloud repeats a command after a broken connection, and by then the job may be over."""
    assert cloud.run(*RUN, "--keep")[0] == 0
    (call,) = [call for call in cloud.calls() if essence(call).endswith("start")]
    command = next(word for word in call if word.startswith("--command="))
    with (cloud.folder / "answer").open("w") as answer:
        machines.start(cloud.service.folder, "t", 0, command.removeprefix("--command="), answer).wait()
    assert (cloud.folder / "answer").read_text().startswith("pod: state exited 1 0 ")
    assert started(cloud) == [1, 1, 1, 1]


def test_the_job_does_not_notice_that_all_connections_break(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN)) as process:
        wait_until(lambda: "is running" in cloud.output() or all(started(cloud)), process)
        cloud.set_scenario(faults=[fault("tpu-vm ssh", "cut off", worker="all", times=6)])
        wait_until(lambda: met_faults(cloud)[0]["times"] == 0, process)
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert started(cloud) == [1, 1, 1, 1]


def test_files_that_arrive_damaged_are_sent_again(cloud):
    cloud.set_scenario(faults=[fault("tpu-vm scp", "damage")])
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert "worker 2 has other files than were sent" in output
    assert sum("scp" in call for call in cloud.calls()) == 2


def test_a_set_up_that_fails_on_one_worker_is_tried_again_there(cloud):
    (cloud.trainer / "fail-setup-3").touch()
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert started(cloud) == [1, 1, 1, 1]


# A job that fails.


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


# Supervisors that end, and more than one of them.


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


# The other commands.


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


# What crosses to the workers.


def test_secrets_reach_the_trainer_and_no_log(cloud):
    status, output = cloud.run(*RUN, "--env", "GIVEN_KEY=s3cr3t $(id)\n'\"", "--env", "GIVEN_EMPTY=")
    assert status == 0, output
    assert cloud.starts(3)[0]["environment"] == {"GIVEN_KEY": "s3cr3t $(id)\n'\"", "GIVEN_EMPTY": ""}
    assert "s3cr3t" not in output
    assert "s3cr3t" not in json.dumps(cloud.calls())
    record = cloud.folder / "records" / "t"
    assert record.stat().st_mode & 0o077 == 0
    named = [path.name for path in record.rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()]
    assert sorted(named) == ["command", "environment"]  # what `resume` and the upload need


def test_data_is_mounted_when_asked(cloud):
    cloud.plan({"hold": True})
    with running(cloud.start(*RUN, "--data", "gs://pictures/prepared", "--mount")) as process:
        wait_until(lambda: all(started(cloud)), process)
        mounts = cloud.service.folder / "machines" / "t" / "2" / "mounts"
        assert mounts.read_text().split()[:3] == ["--implicit-dirs", "-o", "ro"]
        assert "--config.data.data_dir=../data/prepared" in cloud.starts(2)[0]["argv"]
        cloud.release()
        assert process.wait(LIMIT_SECONDS) == 0
