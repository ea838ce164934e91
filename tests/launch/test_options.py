"""The command line and the settings of `launch/tpu_pod.sh`: what they mean, and what is refused before anything is called."""

from pathlib import Path

import pytest
from pod import options, run
from pod.errors import Refused
from pod.slices.accelerators import find_accelerator
from pod.starting import arguments as command_line

ROOT = Path(__file__).resolve().parents[2]
UP = ("up", "--config", "configs/b7.py")


def parse(*arguments, environment=None, settings="", tmp_path=Path("/nowhere"), folder=ROOT):
    file = tmp_path / "pod.env"
    if settings:
        file.write_text(settings)
    return command_line.parse(list(arguments), environment or {}, file, folder, ROOT)


def test_what_is_not_said_has_its_default():
    given = parse(*UP)
    assert (given.name, given.network, given.max_restarts, given.deadline_hours) == ("b7", "default", 20, 168)
    assert given.limits == options.Limits()
    assert given.plan
    assert given.check_service_account


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--type", "v3-32"], "type", "v3-32"),
        (["--type=v3-32"], "type", "v3-32"),
        (["--spot"], "provisioning", "spot"),
        (["--on-demand"], "provisioning", "on-demand"),
        (["--reserved"], "provisioning", "reserved"),
        (["--flex-start"], "provisioning", "flex-start"),
        (["--reservation", "r"], "provisioning", "reserved"),
        (["--reservation", "r"], "reservation", "r"),
        (["--flex-start", "--max-run-duration", "1.5"], "max_run_hours", 1.5),
        (["--valid-until", "6"], "valid_until_hours", 6),
        (["--deadline", "0.5"], "deadline_hours", 0.5),
        (["--boot-disk-size", "200"], "boot_disk_gb", 200),
        (["--internal-ips"], "internal_ips", True),
        (["--network", "n"], "network", "n"),
        (["--subnetwork", "s"], "subnetwork", "s"),
        (["--service-account", "a@b"], "service_account", "a@b"),
        (["--env", "A=b=c", "--env", "B="], "environment", ["A=b=c", "B="]),
        (["--secret", "A=projects/p/secrets/s/versions/1"], "secrets", ["A=projects/p/secrets/s/versions/1"]),
        (["--workdir", "gs://b/r/"], "workdir", "gs://b/r"),
        (["--worker", "3"], "worker", 3),
        (["--max-restarts=0"], "max_restarts", 0),
        (["--controller"], "controller", True),
        (["--no-plan"], "plan", False),
        (["--config.seed=7"], "overrides", ["--config.seed=7"]),
        (["--", "--config.a=1", "--yes", "-- "], "overrides", ["--config.a=1", "--yes", "-- "]),
    ],
)
def test_each_option(words, name, value):
    assert getattr(parse(*UP, *words), name) == value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*UP[:2], "configs/none.py"], "there is no such file"),
        ([*UP, "--name", "T_1"], "expected lower-case letters"),
        ([*UP, "--name", "a" * 41], "at most 40"),
        ([*UP, "--workdir", "runs/here"], "all workers share"),
        ([*UP, "--max-restarts", "many"], "expected a whole number"),
        ([*UP, "--deadline", "soon"], "expected hours"),
        ([*UP, "--deadline", "0"], "expected hours"),
        ([*UP, "--deadline", "9" * 400], "at most 87600"),
        ([*UP, "--max-restarts", "9" * 5000], "at most nine digits"),
        ([*UP, "--zone", "us-central1-a "], "without spaces"),
        ([*UP, "--env", "1=2"], "expected NAME=value"),
        ([*UP, "--env", "SECRET"], "there is no such variable here"),
        ([*UP, "--env", ""], "expected NAME=value"),
        ([*UP, "--secret", "A=b"], "expected NAME=projects/"),
        ([*UP, "--mount"], "--mount needs --data"),
        ([*UP, "--unheard"], "unknown option --unheard"),
        ([*UP, "--unheard=x"], "unknown option --unheard;"),
        ([*UP, "--zone"], "--zone needs a value"),
        ([*UP, "--spot", "--reservation", "r"], "two ways"),
        ([*UP, "--max-run-duration", "3"], "--flex-start"),
        (["fly"], "unknown command fly"),
        (["status"], "name the run"),
    ],
)
def test_what_cannot_work(arguments, said):
    with pytest.raises(Refused, match=said.replace("(", r"\(")):
        parse(*arguments)


def test_a_bare_name_has_its_value_from_here():
    """So that it is on no command line, where everybody on this machine can read it."""
    given = parse(*UP, "--env", "KEY", "--env", "OTHER=", environment={"KEY": "a\n= b"})
    assert given.environment == ["KEY=a\n= b", "OTHER="]


def test_a_value_that_may_be_secret_is_not_repeated():
    with pytest.raises(Refused) as refused:
        parse(*UP, "--env", "9SECRET=hunter2")
    assert "hunter2" not in str(refused.value)


def test_the_option_comes_before_gclouds_environment_and_that_before_the_settings(tmp_path):
    settings = "\ufeff# mine\r\n\nPROJECT=s\nZONE=s\nBUCKET=gs://b/\nNETWORK=n\nPLAN=no\nPOLL_SECONDS=0.5\nMAX_SETUPS=9\nDEADLINE_HOURS=2\n"
    environment = {"CLOUDSDK_CORE_PROJECT": "e", "CLOUDSDK_COMPUTE_ZONE": "e"}
    given = parse(*UP, "--zone", "o", environment=environment, settings=settings, tmp_path=tmp_path)
    assert (given.project, given.zone, given.bucket, given.network, given.plan) == ("e", "o", "b", "n", False)
    assert (given.limits.poll_seconds, given.limits.max_setups, given.deadline_hours) == (0.5, 9, 2)
    assert parse(*UP, "--deadline", "3", settings=settings, tmp_path=tmp_path).deadline_hours == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ZOME=x", "unknown setting: ZOME=x"),
        ("PLAN", "unknown setting: PLAN"),
        ("PLAN=maybe", "PLAN=maybe: expected yes or no"),
        ("POLL_SECONDS=soon", "POLL_SECONDS=soon: expected seconds"),
        ("POLL_SECONDS=0", "POLL_SECONDS=0: expected seconds above 0"),
        ("LOCK_SECONDS=0.0", "LOCK_SECONDS=0.0: expected seconds above 0"),
        ("ZONE=us-central1-a ", "ZONE='us-central1-a ': expected a name without spaces"),
        ('PROJECT="mine"', "expected a name without spaces and quotation marks"),
        ("MAX_SETUPS=1.5", "MAX_SETUPS=1.5: expected a whole number"),
    ],
)
def test_a_setting_that_is_wrong(tmp_path, line, said):
    with pytest.raises(Refused, match=said):
        parse(*UP, settings=line, tmp_path=tmp_path)


def test_a_configuration_is_the_users_own_before_the_checkouts(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "b7.py").touch()
    assert parse(*UP, folder=tmp_path).config == str(tmp_path / "configs" / "b7.py")
    assert parse(*UP, folder=Path("/")).config == str(ROOT / "configs" / "b7.py")
    assert parse("up", "--config", "configs/b7.py:a/../b", folder=Path("/")).config == f"{ROOT}/configs/b7.py:a/../b"


def test_the_trainers_arguments(tmp_path):
    given = parse(*UP, "--data", "gs://d/x/y", "--mount", "--config.seed=1", settings="BUCKET=b", tmp_path=tmp_path)
    made = run.make_run(given, ROOT)
    assert made.arguments == (
        "--config=configs/b7.py",
        "--workdir=gs://b/runs/b7",
        "--config.platform=tpu",
        "--config.data.data_dir=../data/x/y",
        "--config.seed=1",
    )
    assert (made.control, made.mount) == ("gs://b/runs/b7/pod", "d")


def test_a_job_is_told_by_its_arguments_and_the_names_of_its_environment():
    workdir = ("--workdir", "gs://b/r")
    keys = [
        run.make_run(parse(*UP, *workdir, *more), ROOT).key
        for more in ([], ["--env", "A=1"], ["--env", "A=2"], ["--config.seed=1"], ["--", "--config.seed=", "1"])
    ]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*UP[:2], "/etc/hostname", "--workdir=gs://b/r"), "must be one of them"),
        (UP, "where does the run go"),
        ((*UP, "--workdir", "/shared/run"), "needs a bucket too"),
    ],
)
def test_a_run_that_cannot_be(arguments, said):
    with pytest.raises(Refused, match=said):
        run.make_run(parse(*arguments, *(["--name", "t"] if "/etc/hostname" in arguments else [])), ROOT)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v9-8", "unknown generation"),
        ("v5e-16", "v5litepod-16"),
        ("tpu7x-8", "launch/gke"),
        ("v3-9", "must be even"),
        ("v4-20", "multiples of 4 chips"),
        ("v3", "expected a TPU type"),
    ],
)
def test_a_type_that_is_none(name, said):
    with pytest.raises(Refused, match=said):
        find_accelerator(name)


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


@pytest.mark.parametrize("name", PUBLISHED)
def test_chips_machines_and_devices_are_those_published(name):
    found = find_accelerator(name)
    assert (found.chips, found.machines, found.devices) == PUBLISHED[name]
