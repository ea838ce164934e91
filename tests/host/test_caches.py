"""Where caches are for a user without a home, which in containers is usual."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile

import pytest

from pipeline.host.caches import cache_folder
from tests import forks
from tests.runs import COMPILE_FAST, ROOT, TINIEST

ONE_DEVICE = f"--xla_force_host_platform_device_count=1 {COMPILE_FAST}"
NAMELESS = ("unshare", "--user", "--map-user=54321")


@pytest.mark.parametrize("home", [None, "/proc/nothing", "/dev/null"])
def test_without_a_home_a_folder_that_nobody_else_can_write_to(tmp_path, monkeypatch, home):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: _OWNER)
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    if home is None:
        monkeypatch.setattr("pwd.getpwuid", _unknown)
    folder = cache_folder("compiled")
    assert folder.is_dir()
    assert folder.parent.parent == tmp_path
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert cache_folder("compiled") == folder
    folder.parent.chmod(0o777)  # another user's trap
    assert cache_folder("compiled").parent != folder.parent


_OWNER = os.getuid()


def _unknown(number):
    raise KeyError(number)


def test_the_folder_that_the_user_names_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("plans") == tmp_path / "efficientnet" / "plans"


_NO_PLACE = """
import errno, os, tempfile
from pipeline import command

def refuse():
    raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

os.path.expanduser = lambda path: path
tempfile.gettempdir = refuse
for variable in ("XDG_CACHE_HOME", "KERAS_HOME", "MPLCONFIGDIR"):
    os.environ.pop(variable, None)
command.run(lambda: None, ["nothing"])
"""


def test_a_machine_without_any_place_for_caches_is_one_line():
    """As a container that is read-only, without a home, and without a temporary folder."""
    end = forks.run("-c", _NO_PLACE)
    assert end.returncode == 71
    assert end.stderr.startswith("Error: the system refused: [Errno 2] No usable temporary directory")


@pytest.mark.slow
@pytest.mark.parametrize("data_dir", ["{}/data", "~/data"])
def test_a_user_with_neither_name_nor_home_trains(tmp_path, data_dir):
    if not shutil.which("unshare") or subprocess.run([*NAMELESS, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let a test be another user")
    hidden = ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR", "USER", "LOGNAME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    (tmp_path / "here").mkdir()
    arguments = (
        f"--config={ROOT / TINIEST}",
        f"--workdir={tmp_path}/run",
        f"--config.data.data_dir={data_dir.format(tmp_path)}",
    )
    end = subprocess.run(
        [*NAMELESS, sys.executable, "-m", "pipeline.train", *arguments, "--config.duration=3 steps"],
        cwd=tmp_path / "here",
        env={**environment, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "XLA_FLAGS": ONE_DEVICE},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in end.stderr
    assert not list((tmp_path / "here").iterdir())  # such as a folder called ~
    if data_dir.startswith("~"):
        assert (end.returncode, "there is no home directory" in end.stderr) == (78, True)
    else:
        assert end.returncode == 0, end.stderr
