"""`launch/local.sh` and `launch/test.sh`: the set-up they make, and what reaches the trainer."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds=1800"


def start(checkout, *arguments, cwd=None, script="local.sh", path=None, **environment):
    """Starts a launch script as a user would from `cwd`; a value of None removes the variable."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_", "PIP_"))}
    variables |= {"PYTHON": sys.executable, "PIP_CONFIG_FILE": os.devnull, "PATH": path or os.environ["PATH"]}
    variables |= environment
    return subprocess.Popen(
        [str(checkout / "launch" / script), *arguments],
        cwd=cwd or checkout,
        env={key: value for key, value in variables.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(checkout, *arguments, **options):
    """Runs a launch script to its end; returns (exit status, standard output, standard error)."""
    process = start(checkout, *arguments, **options)
    output, error = process.communicate(timeout=300)
    return process.returncode, output, error


def make_ready(checkout):
    """Gives the checkout a .venv that counts as complete, without the seconds that a real one takes."""
    venv = checkout / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    shutil.copy(checkout / "requirements.txt", venv / "requirements.txt")


def commands_path(folder: Path, **scripts: str) -> str:
    """A PATH that starts with `folder`, which holds each of `scripts` as an executable shell script."""
    folder.mkdir(exist_ok=True)
    for name, body in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_first_start_installs_and_a_second_one_needs_nothing(checkout, tmp_path):
    status, output, error = run(checkout)
    assert status == 0, error
    call = json.loads(output)
    assert call["executable"] == str(checkout / ".venv" / "bin" / "python")
    assert call["argv"] == [
        f"--config={checkout}/configs/quickstart.py",
        f"--workdir={checkout}/runs/quickstart",
    ]
    version = subprocess.check_output(
        [checkout / ".venv" / "bin" / "python", "-c", "import feather; print(feather.VERSION)"], text=True
    )
    assert version == "1.0\n"

    broken = commands_path(tmp_path / "bin", pip="exit 9", uv="exit 9", python3="exit 9")
    (tmp_path / "wheels").rename(tmp_path / "gone")
    status, output, error = run(checkout, path=broken)
    assert (status, error) == (0, "")
    (tmp_path / "gone").rename(tmp_path / "wheels")

    requirements = checkout / "requirements.txt"
    requirements.write_text(requirements.read_text().replace("feather==1.0", "feather==2.0"))
    status, _, error = run(checkout)
    assert status == 0, error
    version = subprocess.check_output(
        [checkout / ".venv" / "bin" / "python", "-c", "import feather; print(feather.VERSION)"], text=True
    )
    assert version == "2.0\n"


def test_two_starts_at_once_install_once(checkout):
    both = [start(checkout), start(checkout)]
    results = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert sum("installing requirements.txt" in error for _, error in results) == 1
    assert len({json.loads(output)["pid"] for output, _ in results}) == 2


def test_interrupted_installation_is_not_taken_for_a_complete_one(checkout):
    make_ready(checkout)
    (checkout / ".venv" / "unfinished").touch()
    (checkout / ".venv" / "left over").touch()
    status, _, error = run(checkout)
    assert status == 0, error
    assert "unfinished or unusable" in error
    assert not (checkout / ".venv" / "unfinished").exists()
    assert not (checkout / ".venv" / "left over").exists()


def test_failed_installation_is_tried_again(checkout, tmp_path):
    (tmp_path / "wheels").rename(tmp_path / "gone")
    status, _, error = run(checkout)
    assert status == 1
    assert error.splitlines()[-1].startswith("local.sh: cannot install requirements.txt: ")
    (tmp_path / "gone").rename(tmp_path / "wheels")
    assert run(checkout)[0] == 0


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("error: Temporary failure in name resolution", "the package index cannot be reached"),
        ("Failed to establish a new connection: [Errno 111] Connection refused", "the package index cannot be reached"),
        ("ERROR: No matching distribution found for feather", "No matching distribution found for feather"),
        ("", "the installer failed"),
    ],
)
def test_one_line_says_why_the_installation_failed(checkout, tmp_path, said, told):
    """The installer's own words, as pip and uv print them, become one line."""
    path = commands_path(tmp_path / "bin", uv=f"echo '{said}' >&2; exit 1")
    status, output, error = run(checkout, path=path)
    assert (status, output) == (1, "")
    assert len(error.splitlines()) == 2  # what it was doing, and why it failed
    assert told in error.splitlines()[-1]
    assert "install.log" in error.splitlines()[-1]


def test_uv_is_preferred(checkout, tmp_path):
    path = commands_path(tmp_path / "bin", uv='echo "$@" >>"$UV_CALLS"; [ "$1" = pip ] || ln -s "$4" "$5/bin/python"')
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    calls = tmp_path / "calls"
    status, _, error = run(checkout, path=path, UV_CALLS=str(calls))
    assert status == 0, error
    venv = checkout / ".venv"
    assert calls.read_text() == f"pip install --python {venv}/bin/python -r {checkout}/requirements.txt\n"


def test_python_too_old(checkout, tmp_path):
    old = commands_path(tmp_path / "bin", python3='[ "$1" != --version ] || { echo Python 3.8.1; exit; }; exit 1')
    status, output, error = run(checkout, path=old, PYTHON="python3")
    assert (status, output) == (1, "")
    assert error == (
        "local.sh: needs Python 3.11, 3.12, 3.13 and found Python 3.8.1;"
        " install one, or set PYTHON to it, or install uv\n"
    )


def test_python_without_pip(checkout, tmp_path):
    bare = commands_path(tmp_path / "bin", python3='case $2 in *ensurepip*) exit 1 ;; esac; exec "$REAL" "$@"')
    status, _, error = run(checkout, path=bare, PYTHON="python3", REAL=sys.executable)
    assert status == 1
    assert "has no venv or pip module" in error.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config=mine.py", "--workdir=out"],
        ["--config", "mine.py", "--workdir", "out"],
    ],
)
def test_paths_are_those_of_the_users_folder(checkout, tmp_path, arguments):
    make_ready(checkout)
    folder = tmp_path / "my folder"
    folder.mkdir()
    (folder / "mine.py").touch()
    status, output, error = run(checkout, *arguments, "--config.data.data_dir=data", cwd=folder)
    assert status == 0, error
    call = json.loads(output)
    assert call["argv"] == [
        f"--config={folder}/mine.py",
        f"--workdir={folder}/out",
        f"--config.data.data_dir={folder}/data",
    ]
    assert call["cwd"] == str(checkout)


def test_a_tilde_that_the_shell_leaves_is_the_home_directory(checkout, tmp_path):
    make_ready(checkout)
    arguments = ["--config=~/mine.py", "--workdir", "~/out", "--config.data.data_dir=~"]
    call = json.loads(run(checkout, *arguments, cwd=tmp_path, HOME="/home/an other")[1])
    expected = [
        "--config=/home/an other/mine.py",
        "--workdir=/home/an other/out",
        "--config.data.data_dir=/home/an other",
    ]
    assert call["argv"] == expected
    call = json.loads(run(checkout, "--workdir=~/out", cwd=tmp_path, HOME=None)[1])
    assert call["argv"][1] == "--workdir=~/out", "for the trainer to refuse"


def test_an_exported_cdpath_changes_nothing(checkout):
    make_ready(checkout)
    (checkout / "elsewhere" / "launch").mkdir(parents=True)
    for found in (".", "elsewhere"):
        command = ["bash", "launch/local.sh"]
        variables = {**os.environ, "CDPATH": found, "PYTHON": sys.executable}
        output = subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True)
        assert output.returncode == 0, output.stderr
        assert json.loads(output.stdout)["cwd"] == str(checkout)


def test_a_config_of_the_repository_is_found_from_any_folder(checkout, tmp_path):
    make_ready(checkout)
    arguments = ["--config=configs/quickstart.py:small", "--workdir=gs://bucket/run"]
    call = json.loads(run(checkout, *arguments, cwd=tmp_path)[1])
    assert call["argv"] == [f"--config={checkout}/configs/quickstart.py:small", "--workdir=gs://bucket/run"]


def test_overrides_arrive_byte_for_byte(checkout):
    make_ready(checkout)
    overrides = ["--config.a=b c", "--config.m=(4,2)", "--config.q='\"$HOME`\\", "--config.n=two\nlines", "--config.e="]
    assert json.loads(run(checkout, *overrides)[1])["argv"][2:] == overrides


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, PATIENCE),
        ({"JAX_PLATFORMS": "cpu"}, PATIENCE),
        ({"JAX_PLATFORMS": "tpu"}, None),
        ({"XLA_FLAGS": "--mine"}, "--mine"),
        ({"XLA_FLAGS": ""}, ""),
    ],
)
def test_xla_waits_for_slow_devices_unless_the_user_chose(checkout, environment, expected):
    make_ready(checkout)
    flags = json.loads(run(checkout, **environment)[1])["XLA_FLAGS"]
    assert flags == expected or (expected == PATIENCE and PATIENCE in flags.split())


def test_xla_accepts_the_flags(checkout):
    """XLA ends a process that has an unknown flag in XLA_FLAGS."""
    make_ready(checkout)
    (checkout / "pipeline" / "train.py").write_text("import jax\nprint(jax.device_count('cpu'))\n")
    packages = os.pathsep.join(path for path in sys.path if path)
    status, output, error = run(checkout, PYTHONPATH=packages, JAX_PLATFORMS="cpu")
    assert (status, output) == (0, "1\n"), error


def test_signals_reach_the_trainer_itself(checkout):
    make_ready(checkout)
    (checkout / "pipeline" / "train.py").write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "print(os.getpid(), flush=True)\n"
        "signal.pause()\n"
    )
    process = start(checkout)
    assert int(process.stdout.readline()) == process.pid
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 75


def test_the_tests_run_from_any_folder_with_the_given_arguments(checkout, tmp_path):
    make_ready(checkout)
    packages = os.pathsep.join(path for path in sys.path if path)
    (checkout / "test_probe.py").write_text(
        "import os\n\n"
        "def test_probe():\n    assert os.environ['JAX_PLATFORMS'] == 'cpu'\n\n"
        "def test_other():\n    assert 0\n"
    )
    arguments = ["test_probe.py", "-k", "test_probe and not other", "-p", "no:cacheprovider"]
    status, output, error = run(checkout, *arguments, script="test.sh", cwd=tmp_path, PYTHONPATH=packages)
    assert status == 0, output + error
    assert "1 passed, 1 deselected" in output
