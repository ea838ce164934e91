"""A job under `launch/tpu_pod.sh` that fails: which failure is whose, and what follows. What follows from what in every case
is in the tables of `test_job_decisions.py`; here are the ways that go through the whole.
"""

import signal

import pytest
from cloud.bed import BUCKET, LIMIT_SECONDS, POD, RUN
from cloud.services import wait_until


@pytest.mark.parametrize(
    ("status", "said"),
    [(78, "the configuration cannot work"), (65, "data is missing or damaged"), (70, "training must not go on")],
)
def test_what_a_restart_cannot_help_ends_the_run_with_its_reason(cloud, status, said):
    cloud.plan({"status": status, "only": [1], "say": "Error: this is why"})
    result, output = cloud.run(*RUN)
    assert result == status, output
    assert said in output
    assert "Worker 1 said" in output
    assert "Error: this is why" in output
    assert cloud.started() == [1, 1]
    assert cloud.nothing_left()


def test_crashes_preemptions_and_a_lost_process_are_started_again(cloud):
    """One after the other: the others of a slice wait for a lost worker for ever, and are asked to save."""
    cloud.plan(
        {"status": 134, "only": [1], "say": "a crash", "progress": 1},
        {"status": 75},
        {"status": -signal.SIGKILL, "only": [0], "say": "another crash", "progress": 2},
        {},
    )
    status, output = cloud.run(*RUN, "--max-restarts", "1")  # progress starts the count anew
    assert status == 0, output
    assert "worker 1 failed first (status 134)" in output
    assert cloud.started() == [4, 4]
    assert len(cloud.incarnations()) == 1
    assert cloud.nothing_left()


def test_three_crashes_without_a_step_bring_another_slice_and_the_bound_ends_the_run(cloud):
    cloud.plan({"status": 1, "say": "a crash"})
    cloud.write_settings(POLL_SECONDS="0.1")
    status, output = cloud.run(*RUN, "--max-restarts", "3")
    assert status == 1, output
    assert "that was failure number 4 without progress, and --max-restarts is 3" in output
    assert cloud.started() == [4, 4]
    assert len(cloud.incarnations()) == 2
    assert cloud.nothing_left()


def test_a_silent_job_is_ended_and_started_again(cloud):
    cloud.write_settings(STALL_SECONDS="5")
    cloud.plan({"hold": True, "deaf": True}, {})
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert cloud.started() == [2, 2]
    assert len(cloud.incarnations()) == 1


def test_a_job_is_asked_to_save_once_however_often_it_is_told(cloud):
    """By the metadata server, by the user, and by the user once more."""
    cloud.plan({"hold": True, "saving": 3})
    with cloud.running(*RUN) as process:
        wait_until(lambda: all(cloud.started()), process=process)
        cloud.machines.notify("t")
        with cloud.running("stop", "--name", "t"), cloud.running("stop", "--name", "t"):
            assert process.wait(LIMIT_SECONDS) == 75, cloud.output()
    assert cloud.output().count("saved a checkpoint") == 1
    assert cloud.job()["outcome"] == "stopped"


def test_a_notice_of_preemption_saves_before_the_machines_go(cloud):
    cloud.plan({"hold": True}, {})
    with cloud.running(*RUN) as process:
        wait_until(lambda: all(cloud.started()), process=process)
        cloud.machines.notify("t")
        wait_until(lambda: not cloud.meter.running(), process=process)
        cloud.tpu.preempt()
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.started() == [2, 2]
    assert len(cloud.incarnations()) == 2
    assert cloud.nothing_left()


def test_the_deadline_ends_job_and_slice(cloud):
    cloud.plan({"hold": True})
    status, output = cloud.run(*RUN, "--deadline", "0.004")
    assert status == 75, output
    assert "deadline" in output
    assert cloud.job()["outcome"] == "deadline"
    assert cloud.nothing_left()


def test_of_a_log_that_grows_faster_than_it_is_sent_the_end_arrives(cloud):
    """Two and a half megabytes at the very end, when the slice is about to go."""
    lines = [f"line {number:58}" for number in range(40_000)]
    cloud.plan({"say": "\n".join(lines)})
    status, output = cloud.run(*RUN)
    assert status == 0
    assert "bytes are left out here" in output
    arrived = output.rpartition("left out here")[2].splitlines()
    arrived = arrived[arrived.index(next(line for line in arrived if line in lines[-8000:-1])) :]
    kept = [line for line in arrived if line.startswith("line ")]
    assert kept == lines[-len(kept) :]
    assert len(kept) > 7000
    pieces = [name for name in cloud.storage.names(BUCKET, f"{POD}/slices/") if "/worker-0/log-" in name]
    assert 2 <= len(pieces) <= 8
