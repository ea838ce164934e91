"""`~` at the beginning of a path."""

import pytest

from pipeline.command import absolute_workdir
from pipeline.data.sources import resolve_data_dir
from pipeline.errors import ConfigError
from pipeline.paths import expanded


def test_the_home_directory_is_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert expanded("~/runs") == "/home/somebody/runs"
    assert expanded("runs/~backup") == "runs/~backup"


@pytest.mark.parametrize("use", [expanded, absolute_workdir, resolve_data_dir])
@pytest.mark.parametrize("path", ["~nobody-has-this-name/runs", "~no-such-user"])
def test_a_home_directory_that_nobody_knows_is_not_made_here(use, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"^{path}: no home directory is known for that"):
        use(path)
    assert not list(tmp_path.iterdir())
