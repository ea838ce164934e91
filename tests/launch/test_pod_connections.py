"""Connections to the workers of `launch/tpu_pod.sh` that break, at each stage."""

import pytest
from cloud import LIMIT_SECONDS, RUN, essence, fault, met_faults, running, started, wait_until
from fake_gcloud import machines


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
