"""A job under `launch/tpu_pod.sh` that fails: which failure is whose, and what follows. What follows from what in every case
is in the tables of `test_job_decisions.py`, and what a slice does by itself in `test_agent.py`; here are the ways that go
through the whole.
"""

import signal

from cloud.bed import BUCKET, LIMIT_SECONDS, POD, RUN
from cloud.services import wait_until


def test_what_a_restart_cannot_help_ends_the_run_with_its_reason(cloud):
    cloud.plan({"status": 65, "only": [1], "say": "Error: this is why"})
    status, output = cloud.run(*RUN)
    assert status == 65, output
    assert "data is missing or damaged" in output
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
    status, output = cloud.run(*RUN, "--max-restarts", "1")  # progress resets the count
    assert status == 0, output
    assert cloud.started() == [4, 4]
    assert cloud.job()["preemptions"] == 1
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
