"""What `launch/tpu_pod.sh up` refuses before anything costs money, and what it knows of the accelerators."""

import os
import pty
import subprocess
import sys

import pytest
from cloud import REPOSITORY

RUN = ("--config", "configs/quickstart.py", "--name", "t", "--type", "v3-32", "--yes")


def refused(cloud, *arguments, **environment) -> str:
    """Runs `up`, which must fail before it asks for a slice; returns the line that says why."""
    status, output = cloud.run(*arguments, **environment)
    assert status != 0, output
    assert not any("create" in call for call in cloud.calls())
    return output.splitlines()[-1]


def test_no_gcloud(cloud):
    (cloud.folder / "bin" / "gcloud").unlink()
    tools = cloud.folder / "tools"
    tools.mkdir()
    for name in (
        "bash",
        "env",
        "dirname",
        "basename",
        "cat",
        "cmp",
        "mkdir",
        "hostname",
        "sed",
        "grep",
        "awk",
        "flock",
    ):
        (tools / name).symlink_to(subprocess.check_output(["which", name], text=True).strip())
    for name in ("git", "tar", "gzip", "sha256sum", "cut", "rm", "head", "tail"):
        (tools / name).symlink_to(subprocess.check_output(["which", name], text=True).strip())
    assert "gcloud is not installed" in refused(cloud, *RUN, PATH=str(tools))


def test_not_logged_in(cloud):
    cloud.set_scenario(account="")
    assert "gcloud auth login" in refused(cloud, *RUN)


@pytest.mark.parametrize("setting", ["PROJECT", "ZONE", "BUCKET"])
def test_settings_that_are_missing(cloud, setting):
    cloud.write_settings(**{setting: ""})
    option = {"PROJECT": "--project", "ZONE": "--zone", "BUCKET": "--workdir"}[setting]
    line = refused(cloud, *RUN)
    assert option in line
    assert "launch/pod.env" in line


def test_a_setting_that_is_unknown(cloud):
    cloud.write_settings(ZOME="x")
    assert "unknown setting: ZOME=x" in refused(cloud, *RUN)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "configs/none.py"], "there is no such file"),
        (["--config", "configs/untracked.py"], "not tracked by git"),
        (["--config", "/etc/hostname"], "must be one of them"),
        (["--name", "T_1"], "expected lower-case letters"),
        (["--type", "v9-8"], "unknown generation"),
        (["--type", "v5e-16"], "v5litepod-16"),
        (["--type", "tpu7x-8"], "launch/gke"),
        (["--type", "v3-9"], "must be even"),
        (["--type", "v2-8"], "zone europe-west4-a has no v2-8"),
        (["--workdir", "runs/here"], "all workers share"),
        (["--workdir", "gs://nobody/run"], "gcloud storage buckets create gs://nobody --location=europe-west4"),
        (["--workdir", "gs://far/run"], "use a bucket in europe-west4"),
        (["--workdir", "gs://us/run"], "use a bucket in europe-west4"),
        (["--max-restarts", "many"], "expected a whole number"),
        (["--deadline", "soon"], "expected hours"),
        (["--env", "1=2"], "expected NAME=value"),
        (["--mount"], "--mount needs --data"),
        (["--unheard"], "unknown option --unheard"),
        (["--zone"], "--zone needs a value"),
        (["--", "--config.bathc_size=1"], "batch_size"),
        (["--", "--config.batch_size=100"], "does not divide over the 32 devices of v3-32; the next that does is 128"),
    ],
)
def test_what_cannot_work(cloud, arguments, said):
    cloud.set_scenario(types={"v3-32": 4}, buckets={"bucket": "EU", "far": "US-CENTRAL1", "us": "US"})
    (cloud.checkout / "configs" / "untracked.py").touch()
    assert said in refused(cloud, *RUN, *arguments)


@pytest.mark.parametrize(
    ("call", "text", "said"),
    [
        ("accelerator-types", "PERMISSION_DENIED: Cloud TPU API has not been used in project 1", "is the API enabled?"),
        (
            "buckets describe",
            "HTTPError 403: someone does not have storage.buckets.get access",
            "no permission to look",
        ),
        (
            "storage cp",
            "HTTPError 403: someone does not have storage.objects.create access",
            "cannot write to --workdir",
        ),
    ],
)
def test_what_is_not_allowed(cloud, call, text, said):
    cloud.set_scenario(faults=[{"call": call, "do": "fail", "text": text, "times": 9}])
    assert said in refused(cloud, *RUN)


def test_nobody_to_confirm_the_cost(cloud):
    assert "give --yes" in refused(cloud, *RUN[:-1])


@pytest.mark.parametrize(("answer", "asked_for"), [(b"n\n", 0), (b"y\n", 1)])
def test_the_cost_is_confirmed_on_a_terminal(cloud, answer, asked_for):
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    command = [str(cloud.checkout / "launch" / "tpu_pod.sh"), *RUN[:-1]]
    result = subprocess.run(
        command, cwd=cloud.checkout, env=cloud.environment, stdin=theirs, capture_output=True, text=True
    )
    assert "16 chip-hours an hour, about 32.00 US dollars" in result.stderr  # 16 chips at 2 dollars
    assert sum("create" in call for call in cloud.calls()) == asked_for


def test_the_slice_of_the_configuration_is_the_default(cloud):
    config = cloud.checkout / "configs" / "quickstart.py"
    text = config.read_text()
    config.write_text(
        text.replace(
            "    return config",
            '    config.launch.accelerator_type = "v5litepod-16"\n    config.launch.spot = True\n    return config',
        )
    )
    status, output = cloud.run("--config", "configs/quickstart.py", "--dry-run")
    assert status == 0, output
    create = next(line for line in output.splitlines() if "queued-resources create" in line)
    assert "create quickstart " in create
    assert "--accelerator-type=v5litepod-16" in create
    assert "--spot" in create


def plan_with(cloud, status: int) -> None:
    """Has the checkout's planner print a line on each stream and exit with `status`; it is tried by itself elsewhere."""
    cloud.write_settings(PLAN="yes")
    python = cloud.checkout / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" != -c ] || exit 0\nexec "{sys.executable}" "$@"\n')
    code = f"import sys\nprint('v3-32:', sys.argv[1:])\nprint('the reason', file=sys.stderr)\nsys.exit({status})\n"
    (cloud.checkout / "pipeline" / "plan.py").write_text(code)


def test_a_plan_that_says_no_ends_it_before_anything_is_asked_for(cloud):
    plan_with(cloud, 70)
    assert "the plan says no: the reason" in refused(cloud, *RUN)
    assert not any("create" in call for call in cloud.calls())


@pytest.mark.parametrize("status", [0, 71, 78])
def test_a_plan_is_shown_and_one_that_cannot_be_made_is_no_obstacle(cloud, status):
    plan_with(cloud, status)
    result, output = cloud.run(*RUN, "--", "--config.seed=3")
    assert result == 0, output
    assert "'--topology=v3-32', '--config.seed=3'" in output
    assert ("no memory plan: the reason" in output) == (status != 0)


@pytest.mark.parametrize("mount", [[], ["--mount"]])
def test_the_plan_is_made_for_the_data_of_the_run(cloud, mount):
    plan_with(cloud, 0)
    result, output = cloud.run(*RUN, "--data", "gs://bucket/data", *mount, "--", "--config.seed=3")
    assert result == 0, output
    assert "'--config.data.data_dir=gs://bucket/data', '--config.seed=3']" in output


def test_data_that_this_machine_cannot_read_is_planned_without(cloud):
    plan_with(cloud, 0)
    planner = cloud.checkout / "pipeline" / "plan.py"
    planner.write_text(
        "import sys\nif 'gs://' in str(sys.argv):\n    sys.exit('no credentials')\n" + planner.read_text()
    )
    result, output = cloud.run(*RUN, "--data", "gs://bucket/data")
    assert result == 0, output
    assert "v3-32: [" in output
    assert "no memory plan" not in output


def test_no_plan_leaves_the_plan_out(cloud):
    plan_with(cloud, 70)
    assert cloud.run(*RUN, "--no-plan")[0] == 0


# The generations' pages of the Cloud TPU documentation: machines and chips of some types; v2 and v3 show each core as a
# device, and 4 chips are on a machine, but for the single-machine types of v5e and v6e.
PUBLISHED = {
    "v2-8": (4, 1, 8),
    "v2-512": (256, 64, 512),
    "v3-8": (4, 1, 8),
    "v3-32": (16, 4, 32),
    "v3-2048": (1024, 256, 2048),
    "v4-8": (4, 1, 4),
    "v4-128": (64, 16, 64),
    "v5p-8": (4, 1, 4),
    "v5p-256": (128, 32, 128),
    "v5litepod-1": (1, 1, 1),
    "v5litepod-8": (8, 1, 8),
    "v5litepod-256": (256, 64, 256),
    "v6e-8": (8, 1, 8),
    "v6e-16": (16, 4, 16),
}


def test_chips_machines_and_devices_are_those_published():
    script = "ROOT=$PWD; source launch/lib/messages.sh; source launch/lib/accelerators.sh; "
    script += 'for t in "$@"; do know_accelerator "$t"; echo "$t $CHIPS $HOSTS $DEVICES"; done'
    lines = subprocess.check_output(["bash", "-c", script, "-", *PUBLISHED], cwd=REPOSITORY, text=True).splitlines()
    assert {name: tuple(map(int, rest)) for name, *rest in map(str.split, lines)} == PUBLISHED
