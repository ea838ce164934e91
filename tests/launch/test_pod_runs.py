"""`launch/tpu_pod.sh` against the loopback cloud: whole runs on the way that all goes well, and what crosses to the workers."""

import json
import os
import random
import signal
import string
import subprocess

from cloud.bed import BUCKET, LIMIT_SECONDS, POD, REPOSITORY, RUN
from cloud.services import wait_until

METACHARACTERS = " \t\n\r'\"`$\\!*?[]{}()<>|&;#~=,%^@:éß漢\u2028\x01\x7f"


def random_values() -> list[str]:
    """Every metacharacter alone, what has tripped launchers, and mixtures; the same at each run of the tests."""
    chooser = random.Random(0)
    values = [
        *METACHARACTERS,
        "",
        "  two  spaces  ",
        "-n",
        "--",
        "\\n",
        "$(touch /nowhere)",
        "a'b'c",
        "~/x",
        "!!",
        "end\n",
    ]
    alphabet = METACHARACTERS + string.ascii_letters + string.digits
    return values + ["".join(chooser.choices(alphabet, k=chooser.randrange(1, 40))) for _ in range(60)]


def test_trains_to_the_end_and_leaves_nothing_behind(cloud):
    """With four workers, overrides of every metacharacter and secrets: all of it arrives byte for byte on each.

    On worker 2 the packages cannot be fetched at the first attempt.
    """
    (cloud.trainer / "fail-setup-2").touch()
    overrides = [f"--config.data.name={value}" for value in random_values()]
    secret = "s3cr3t $(id)\n'\""
    cloud.services.admin.secrets["key"] = b"of the manager"
    given = ("--env", f"GIVEN_KEY={secret}", "--env", "GIVEN_EMPTY=")
    given += ("--secret", "GIVEN_FILE=projects/project/secrets/key/versions/1")
    status, output = cloud.run(*RUN, "--type", "v3-32", *given, "--", *overrides)
    assert status == 0, output
    assert cloud.started(range(4)) == [1, 1, 1, 1]
    for worker in range(4):
        (start,) = cloud.starts(worker)
        assert start["argv"] == [
            *("--config=configs/quickstart.py", "--workdir=gs://bucket/runs/t", "--config.platform=tpu"),
            *overrides,
        ]
        assert start["environment"] == {"GIVEN_KEY": secret, "GIVEN_EMPTY": "", "GIVEN_FILE": "of the manager"}
    assert "worker 0, start 1\ndone\n" in output
    assert cloud.nothing_left()
    assert len(cloud.incarnations()) == 1
    assert_kept_secret(cloud, "s3cr3t", output)


def assert_kept_secret(cloud, secret: str, output: str) -> None:
    """Nowhere but in files that their owner alone reads, and in one object that is gone."""
    assert secret not in output
    requests = [call for call in cloud.server.calls if secret.encode() in call.data]
    assert len(requests) == 1
    assert b"environment-" in requests[0].data
    assert [name for name in cloud.storage.names(BUCKET) if "environment-" in name] == []
    for created in cloud.server.seen("POST .*queuedResources"):
        assert secret not in json.dumps(created.body)
    record = cloud.folder / "homes" / "user" / ".local" / "state" / "tpu_pod" / "t"
    assert record.stat().st_mode & 0o077 == 0


def test_the_entry_is_plain_sh_and_needs_little(cloud):
    """Each way to start it, with a PATH in which even git and Python are all there is."""
    script = REPOSITORY / "launch" / "tpu_pod.sh"
    assert script.read_text().startswith("#!/bin/sh\n")
    shellcheck = REPOSITORY / ".venv" / "bin" / "shellcheck"
    checked = subprocess.run([shellcheck, "--shell=sh", script], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    for tool in ("flock", "timeout", "sha256sum", "tar", "gzip", "gcloud", "setsid", "date", "stat"):
        assert not (cloud.folder / "bin" / tool).exists()
    (cloud.folder / "bin" / "bash").unlink()
    temporary = cloud.folder / "temporary"
    temporary.mkdir()
    status, output = cloud.run(*RUN, "--dry-run", TMPDIR=str(temporary))
    assert status == 0, output
    assert "gcloud compute tpus queued-resources create t " in output
    assert cloud.server.calls == []
    assert list(temporary.iterdir()) == []
    assert not (cloud.folder / "homes" / "user" / ".local").exists()


def test_stop_and_resume_by_another_route(cloud):
    """A job that is stopped keeps its slice; `resume`, from another folder by a relative path, goes on with its arguments.

    Its data are mounted.
    """
    override = "--config.data.name=(a, 'b c')\n$HOME"
    cloud.plan({"hold": True}, {})
    with cloud.running(*RUN, "--data", "gs://images/prepared", "--mount", "--", override) as process:
        wait_until(lambda: all(cloud.started()), process=process)
        mounts = cloud.machines.nodes["t"][1].home / "mounts"
        assert mounts.read_text().split()[:4] == ["--implicit-dirs", "-o", "ro", "images"]
        status, output = cloud.run("stop", "--name", "t")
        assert status == 0, output
        assert process.wait(LIMIT_SECONDS) == 75, cloud.output()
    assert cloud.tpu.node()["state"] == "READY"
    command = ["a checkout/launch/tpu_pod.sh", "resume", "--name", "t", "--yes"]
    resumed = subprocess.run(command, cwd=cloud.folder, env=cloud.environment(), capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert [start["argv"][3:] for start in cloud.starts(1)] == [
        ["--config.data.data_dir=../data/prepared", override]
    ] * 2
    assert len(cloud.incarnations()) == 1
    assert cloud.nothing_left()


def test_keep_leaves_the_slice_until_it_has_been_idle_for_long(cloud):
    """With no supervisor and nothing to do it is deleted from within."""
    cloud.write_settings(IDLE_SECONDS="1")
    status, output = cloud.run(*RUN, "--keep")
    assert status == 0, output
    assert "dollars an hour" in output
    assert cloud.tpu.node()["state"] == "READY"
    wait_until(lambda: cloud.tpu.holds == [])
    deletions = cloud.server.seen("DELETE .*/queuedResources/t")
    assert [call.who for call in deletions] == ["worker"]


def test_status_logs_and_a_simulated_preemption(cloud):
    events = [
        {"event": "train", "step": 100, "images_per_second": 64.0},
        {"event": "evaluation", "step": 100, "ema_top1": 0.875, "raw_top1": 0.5},
    ]
    cloud.storage.write(BUCKET, "runs/t/metrics.jsonl", "".join(json.dumps(event) + "\n" for event in events).encode())
    cloud.plan({"status": 1, "say": "a crash"}, {"hold": True}, {})
    with cloud.running(*RUN) as process:
        wait_until(lambda: cloud.started() == [2, 2], process=process)
        status, output = cloud.run("status", "--name", "t")
        assert status == 0, output
        assert "READY" in output
        assert "v5p-16" in output
        assert "87.50%" in output
        assert "attempt 2" in output
        status, output = cloud.run("logs", "--name", "t", "--worker", "1")
        assert status == 0, output
        assert "worker 1, start 2" in output
        status, output = cloud.run("simulate", "--name", "t")
        assert status == 0, output
        assert process.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.started() == [3, 3]
    assert len(cloud.incarnations()) == 2
    assert cloud.nothing_left()


def test_ctrl_c_ends_the_supervisor_and_not_the_job_and_the_same_command_joins_it(cloud):
    cloud.plan({"hold": True})
    with cloud.running(*RUN) as first:
        wait_until(lambda: all(cloud.started()), process=first)
        os.kill(first.pid, signal.SIGINT)
        assert first.wait(LIMIT_SECONDS) == 130
    assert "the job and the slice continue" in cloud.output()
    assert cloud.storage.read(BUCKET, f"{POD}/lock.json") is None
    with cloud.running(*RUN) as second:
        wait_until(lambda: cloud.output().count("job: running") == 2, process=second)
        cloud.release()
        assert second.wait(LIMIT_SECONDS) == 0, cloud.output()
    assert cloud.started() == [1, 1]
    assert len(cloud.incarnations()) == 1
    assert cloud.nothing_left()


def test_a_controller_supervises_while_the_laptop_is_closed(cloud):
    """It replaces a slice that is taken back, and deletes itself at the end."""
    cloud.plan({"hold": True}, {})
    status, output = cloud.run(*RUN, "--controller", "--env", "GIVEN_KEY=value")
    assert status == 0, output
    wait_until(lambda: all(cloud.started()))
    cloud.tpu.preempt()
    wait_until(lambda: cloud.services.compute.instances == {})
    assert cloud.started() == [2, 2]
    assert cloud.starts(1)[1]["environment"] == {"GIVEN_KEY": "value"}
    assert cloud.job()["outcome"] == "finished"
    assert cloud.tpu.created == 2
    assert {call.who for call in cloud.server.seen("(POST|DELETE) .*queuedResources|DELETE .*instances/t")} == {
        "worker",
        "user",  # one that an earlier run might have left
    }
    wait_until(cloud.nothing_left)


def test_down_ends_a_controller_with_its_slice(cloud):
    cloud.plan({"hold": True})
    assert cloud.run(*RUN, "--controller")[0] == 0
    wait_until(lambda: all(cloud.started()))
    status, output = cloud.run("down", "--name", "t")
    assert status == 0, output
    assert cloud.services.compute.instances == {}
    assert cloud.tpu.created == 1
    wait_until(cloud.nothing_left)
