"""`~` at the beginning of a path."""

import os
import subprocess
import sys

import pytest

from pipeline.command import absolute_workdir
from pipeline.data.sources import resolve_data_dir
from pipeline.errors import ConfigError
from pipeline.host.paths import command_line, expanded


def test_the_home_directory_is_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert expanded("~/runs") == "/home/somebody/runs"
    assert expanded("runs/~backup") == "runs/~backup"


@pytest.mark.parametrize("use", [expanded, absolute_workdir, resolve_data_dir])
@pytest.mark.parametrize("path", ["~nobody-has-this-name/runs", "~no-such-user"])
def test_a_home_directory_that_nobody_knows_is_not_made_here(use, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"^{path}: there is no home directory"):
        use(path)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_data_that_array_record_cannot_name_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"caf\\udce9: array_record"):
        resolve_data_dir(f"{tmp_path}/{os.fsdecode(b'caf' + bytes([0xE9]))}")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_command_line_is_given_to_a_shell_as_it_is(tmp_path, monkeypatch, elsewhere):
    if elsewhere:
        monkeypatch.chdir(tmp_path)
    line = command_line("-c", "import sys; print(sys.executable, sys.argv[1:])", "it's a folder", "$HOME")
    end = subprocess.run(["sh", "-c", line], env={}, capture_output=True, text=True)
    given = ["it's a folder", "$HOME"]
    assert end.stdout == f"{sys.executable} {given}\n", end.stderr
