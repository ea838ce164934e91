"""The run's directory as the command line gives it: tried, and left as it was."""

import concurrent.futures
import os

import pytest

from pipeline.command import absolute_workdir
from pipeline.errors import ConfigError


def test_a_directory_that_can_be_made_is_not_made_yet(tmp_path):
    assert absolute_workdir(f"{tmp_path}/runs/../runs/b0/") == f"{tmp_path}/runs/b0"
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_there_stays(tmp_path):
    (tmp_path / "runs" / "b0").mkdir(parents=True)
    assert absolute_workdir(f"{tmp_path}/runs/b0") == f"{tmp_path}/runs/b0"
    assert (tmp_path / "runs" / "b0").is_dir()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file", "File exists"), ("file/run", ".*/file: File exists"), ("x" * 300, "File name too long")],
)
def test_what_cannot_be_a_directory_is_one_line_and_leaves_nothing(tmp_path, name, reason):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"--workdir=.*: {reason}"):
        absolute_workdir(f"{tmp_path}/{name}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_lies_beyond_the_part_that_cannot_be_made_is_not_left(tmp_path):
    with pytest.raises(ConfigError, match="File name too long"):
        absolute_workdir(f"{tmp_path}/runs/{'x' * 300}/b0")
    assert list(tmp_path.iterdir()) == []


def test_processes_that_try_the_same_directory_at_the_same_time_do_not_meet(tmp_path):
    paths = [f"{tmp_path}/runs/b{number // 8}" for number in range(800)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(absolute_workdir, paths)) == paths
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_taken_as_it_is():
    assert absolute_workdir("gs://bucket/runs/b0/") == "gs://bucket/runs/b0"


@pytest.mark.parametrize(
    "url", ["gs://", "gs:///runs", "gs://bucket//run", "gs://bucket/../run", "gs://bucket/a\n/run"]
)
def test_what_no_bucket_has_is_refused(url):
    with pytest.raises(ConfigError, match="expected gs://BUCKET/FOLDER") as refusal:
        absolute_workdir(url)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("url", ["s3://bucket/run", "http://bucket/run", "file:///run"])
def test_other_storage_is_refused(url):
    with pytest.raises(ConfigError, match="one of Google Cloud Storage"):
        absolute_workdir(url)


@pytest.mark.parametrize("name", [b"back\\slash", b"l\xe4tin-1", b"\xff"])
def test_names_that_checkpoints_would_not_be_written_to_are_refused(name, tmp_path):
    with pytest.raises(ConfigError, match="tensorstore, which writes the checkpoints") as refusal:
        absolute_workdir(f"{tmp_path}/{os.fsdecode(name)}")
    assert str(refusal.value).isprintable()
    assert list(tmp_path.iterdir()) == []
