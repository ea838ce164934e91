"""`launch/tpu_pod.sh --dry-run`: what it needs, what it leaves, what it prints. Whether the commands are right is asked of the
real gcloud elsewhere."""

import ast
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pod import commands as commands_of
from pod.record import Place, Record
from pod.starting import configuration

ROOT = Path(__file__).resolve().parents[2]
RUN = ("--config", "configs/quickstart.py", "--name", "t", "--type", "v3-32", "--dry-run")
SETTINGS = "PROJECT=project\nZONE=europe-west4-a\nBUCKET=bucket\n"


@pytest.fixture
def home(tmp_path):
    """A user's home whose PATH has nothing but git and a Python: no gcloud, no flock, no timeout, no GNU tar."""
    (tmp_path / "pod.env").write_text(SETTINGS)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("git", "dirname"):
        (programs / name).symlink_to(shutil.which(name))
    (programs / "python3").symlink_to(sys.executable)
    return tmp_path


def dry_run(home, *arguments, shell=("sh",), **environment):
    """Runs it with a bare environment and returns (status, standard output, standard error)."""
    result = subprocess.run(
        [shutil.which(shell[0]), *shell[1:], str(ROOT / "launch" / "tpu_pod.sh"), *arguments],
        cwd=ROOT,
        env={"HOME": str(home), "PATH": str(home / "bin"), "POD_SETTINGS": str(home / "pod.env")} | environment,
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout, result.stderr


def commands(output: str) -> list[list[str]]:
    """The printed lines, each as the words of its last command."""
    return [shlex.split(line.rpartition(" | ")[2]) for line in output.splitlines()]


@pytest.fixture
def printed(home, monkeypatch, capsys):
    """What a dry run prints for these options, in this process and with a configuration that was read once."""

    said = configuration.Configuration(accelerator_type="v5p-8", spot=False, batch_size=1024, duration="30 epochs")

    def run(*arguments, read=lambda *_: said):
        monkeypatch.setattr(configuration, "read", read)
        environment = {"HOME": str(home), "POD_SETTINGS": str(home / "pod.env")}
        assert commands_of.main([*RUN, *arguments], environment, ROOT) == 0
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.slow
@pytest.mark.parametrize("shell", [("dash",), ("bash", "--posix")])
def test_it_needs_no_gcloud_and_no_tools_of_gnu(home, shell):
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    status, output, said = dry_run(home, *RUN, shell=shell)
    assert status == 0, said
    verbs = [" ".join(words[:5]) for words in commands(output)]
    create = verbs.index("gcloud compute tpus queued-resources create")
    delete = verbs.index("gcloud compute tpus queued-resources delete")
    assert verbs.index("gcloud compute tpus tpu-vm accelerator-types") < create < delete
    assert "5,376 dollars" in said  # 168 hours of 16 chips at 2 dollars


def test_it_leaves_nothing_on_this_machine(home):
    before = sorted(path for path in home.rglob("*"))
    assert dry_run(home, *RUN)[0] == 0
    assert sorted(path for path in home.rglob("*")) == before


def test_what_is_wanted_is_written_before_the_slice_is_asked_for(home):
    """Otherwise a slice could run a job that nobody wants any more."""
    _, output, _ = dry_run(home, *RUN)
    lines = output.splitlines()
    create = next(index for index, line in enumerate(lines) if "queued-resources create" in line)
    control = next(index for index, line in enumerate(lines) if "pod/control.json --if-generation-match=0" in line)
    assert control < create
    words = shlex.split(lines[create])
    metadata = next(word for word in words if word.startswith("--metadata="))
    incarnation = dict(entry.split("=", 1) for entry in metadata[len("--metadata=") :].split(","))["pod-incarnation"]
    assert f'"incarnation": "{incarnation}"' in lines[control]


def test_secrets_are_not_printed(home):
    status, output, said = dry_run(home, *RUN, "--env", "KEY=hunter2")
    assert status == 0, said
    assert "hunter2" not in output + said
    assert "os.environ" in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--spot"], ["--spot"]),
        (["--reserved"], ["--reserved"]),
        (["--reservation=r"], ["alpha", "--reservation=projects/project/locations/europe-west4-a/reservations/r"]),
        (
            ["--flex-start", "--max-run-duration=2"],
            ["alpha", "--provisioning-model=flex-start", "--max-run-duration=7200s"],
        ),
        (["--deadline=3"], ["--valid-until-duration=10800s"]),
        (["--valid-until=2"], ["--valid-until-duration=7200s"]),
        (["--network=n", "--subnetwork=s", "--internal-ips"], ["--network=n", "--subnetwork=s", "--internal-ips"]),
        (["--service-account=a@b"], ["--service-account=a@b"]),
        (["--type=v5litepod-16"], ["--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"]),
    ],
)
def test_options_reach_the_request(printed, arguments, words):
    create = next(line for line in printed(*arguments) if "queued-resources create" in line)
    assert set(words) <= set(shlex.split(create))


def test_what_gcloud_has_no_option_for_is_a_command_of_curl(printed):
    line = next(line for line in printed("--boot-disk-size=200") if line.startswith("curl "))
    assert '"bootDiskConfig": {"diskSizeGb": "200"}' in line
    assert "v2alpha1/projects/project/locations/europe-west4-a/queuedResources?queuedResourceId=t" in line


def test_a_machine_that_cannot_load_the_configuration_can_rehearse_a_type(printed):
    """Such as a Mac with its own Python 3.9."""

    def refuse(*_):
        raise configuration.CannotLoad("needs Python 3.11")

    lines = printed(read=refuse)
    assert any("queued-resources create" in line for line in lines)


def test_a_controller_is_made_and_what_it_sends_is_printed_too(printed):
    lines = printed("--controller", "--deadline=10", "--internal-ips", "--subnetwork=s", "--service-account=a@b")
    made = next(index for index, line in enumerate(lines) if "instances create t-controller" in line)
    asked = next(index for index, line in enumerate(lines) if "queued-resources create" in line)
    assert made < asked
    words = {
        "--machine-type=e2-small",
        "--no-address",
        "--subnet=s",
        "--max-run-duration=39600s",
        "--service-account=a@b",
    }
    assert words <= set(shlex.split(lines[made]))


def test_a_run_is_looked_for_where_it_is_and_not_where_the_next_one_goes(home, capsys):
    """Else `down` would find nothing, and the slice would be billed on."""
    environment = {"HOME": str(home), "POD_SETTINGS": str(home / "pod.env"), "CLOUDSDK_COMPUTE_ZONE": "us-east1-d"}
    place = Place("another", "us-west4-a", "gs://bucket/runs/t/pod", "gs://bucket/runs/t", type="v3-32")
    Record("t", environment).save_place(place)
    assert commands_of.main(["ssh", "--name=t", "--worker=2", "--dry-run"], environment, ROOT) == 0
    assert "--worker=2 --zone=us-west4-a --project=another" in capsys.readouterr().out
    assert commands_of.main(["down", "--name=t", "--zone=us-east5-a", "--dry-run"], environment, ROOT) == 0
    assert "describe t --zone=us-east5-a --project=another" in capsys.readouterr().out


@pytest.mark.parametrize("setting", ["PROJECT", "ZONE", "BUCKET"])
def test_settings_that_are_missing(home, setting):
    lines = [line for line in SETTINGS.splitlines() if not line.startswith(setting)]
    (home / "pod.env").write_text("\n".join(lines))
    status, _, said = dry_run(home, *RUN)
    assert status == 1
    assert {"PROJECT": "--project", "ZONE": "--zone", "BUCKET": "--workdir"}[setting] in said
    assert "launch/pod.env" in said


@pytest.mark.parametrize("path", sorted((ROOT / "launch" / "pod").glob("*.py")), ids=lambda path: path.name)
def test_the_syntax_is_that_of_python_3_9(path):
    """Annotations may have a newer form, as nobody evaluates them."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    imported = {name for node in tree.body if isinstance(node, ast.ImportFrom) for name in [node.module]}
    assert "__future__" in imported or len(tree.body) <= 1
    known = set(sys.stdlib_module_names) | {"pod", "__future__"}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert {name.split(".")[0] for name in names} <= known


def test_what_decides_is_not_written_in_shell():
    """Shell starts things; below 500 lines it is still read in one sitting."""
    listed = subprocess.run(["git", "ls-files", "launch"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    scripts = [ROOT / name for name in listed.splitlines() if name.endswith(".sh")]
    assert scripts
    assert sum(len(script.read_text().splitlines()) for script in scripts) < 500


def test_no_python_that_is_new_enough(home):
    (home / "bin" / "python3").unlink()
    status, _, said = dry_run(home, *RUN)
    assert status == 1
    assert "needs Python 3.9 or later" in said


def test_a_folder_of_the_user_has_no_say_in_what_is_imported(home):
    (home / "json.py").write_text("raise SystemExit('the wrong json')\n")
    result = subprocess.run(
        [str(ROOT / "launch" / "tpu_pod.sh"), "--help"],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "--config FILE" in result.stdout
