"""`launch/tpu_pod.sh` against the stand-in service: the way through, and what crosses to the workers."""

import json
import shlex

from cloud import LIMIT_SECONDS, RUN, essence, nothing_left, running, started, wait_until


def test_trains_to_the_end_and_leaves_nothing_behind(cloud):
    status, output = cloud.run(*RUN)
    assert status == 0, output
    assert started(cloud) == [1, 1, 1, 1]
    assert cloud.starts()[0]["argv"] == [
        *("--config=configs/quickstart.py", "--workdir=gs://bucket/runs/t", "--config.platform=tpu")
    ]
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


def test_a_dry_run_leaves_nothing_on_this_machine(cloud):
    temporary = cloud.folder / "temporary"
    temporary.mkdir()
    status, output = cloud.run(*RUN, "--dry-run", TMPDIR=str(temporary))
    assert status == 0, output
    assert list(temporary.iterdir()) == []


def test_the_slice_is_what_was_asked_for(cloud):
    cloud.set_scenario(types={"v5litepod-16": 4})
    arguments = ("--config=configs/quickstart.py", "--name=t", "--type=v5litepod-16", "--spot", "--yes")
    status, output = cloud.run(*arguments)
    assert status == 0, output
    create = next(call for call in cloud.calls() if "create" in call)
    assert {"--spot", "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"} <= set(create)


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
