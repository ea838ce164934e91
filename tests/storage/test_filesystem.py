"""gs:// paths as etils.epath and fsspec see them, on a server of the real protocol."""

import io
import itertools

import fsspec
import pytest
from etils import epath

from pipeline.errors import MachineError
from pipeline.storage import failures, objects
from pipeline.storage.filesystem import finish_deletions
from tests.storage.faults import Fault


@pytest.fixture
def folder(server, request):
    path = epath.Path(f"gs://bucket/{request.node.name}")
    path.mkdir()
    return path


def names(path):
    return sorted(child.name for child in path.iterdir())


def test_epath_uses_this_file_system(server):
    assert type(epath.Path("gs://bucket/a")._backend.fs("gs://bucket/a")).__module__ == "pipeline.storage.filesystem"


def test_an_empty_folder_exists_and_is_empty(folder):
    assert folder.exists()
    assert folder.is_dir()
    assert names(folder) == []
    with pytest.raises(FileExistsError):
        folder.mkdir()
    folder.mkdir(parents=True, exist_ok=True)


def test_a_folder_that_is_only_part_of_names_exists(folder):
    (folder / "a" / "b" / "c").write_text("text")
    assert (folder / "a").is_dir()
    assert names(folder) == ["a"]
    assert names(folder / "a") == ["b"]
    assert not (folder / "a" / "bb").exists()
    assert not (folder / "a" / "b" / "c").is_dir()


def test_names_that_begin_alike_are_not_children(folder):
    (folder / "run").mkdir()
    (folder / "run" / "x").write_text("1")
    (folder / "run2").mkdir()
    (folder / "run.txt").write_text("2")
    assert names(folder / "run") == ["x"]
    (folder / "run").rmtree()
    assert names(folder) == ["run.txt", "run2"]


def test_what_is_not_there(folder):
    for call in (
        (folder / "none").read_text,
        (folder / "none").unlink,
        (folder / "none").rmtree,
        (folder / "none").stat,
        lambda: list((folder / "none").iterdir()),
        lambda: (folder / "none").rename(folder / "other"),
    ):
        with pytest.raises(FileNotFoundError):
            call()
    assert not (folder / "none").exists()
    (folder / "none").unlink(missing_ok=True)


def test_text_bytes_and_appending(folder):
    path = folder / "file"
    path.write_text("größe\n")
    with path.open("a") as file:
        file.write("two\n")
    assert path.read_text() == "größe\ntwo\n"
    assert path.stat().length == 12
    (folder / "bytes").write_bytes(b"\0\1")
    assert (folder / "bytes").read_bytes() == b"\0\1"


def test_a_block_that_ends_by_an_error_leaves_no_file(folder):
    def write_half():
        with (folder / "half").open("wb") as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert names(folder) == []


def test_a_file_longer_than_a_request(folder):
    content = bytes(range(256)) * 2**16
    with (folder / "large").open("wb") as file:
        for start in range(0, len(content), 2**20):
            file.write(content[start : start + 2**20])
    assert (folder / "large").read_bytes() == content


def test_renaming_a_file_and_a_folder(folder):
    (folder / "a").mkdir()
    (folder / "a" / "x").write_text("1")
    (folder / "a" / "deep").mkdir()
    (folder / "a").rename(folder / "b")
    assert names(folder) == ["b"]
    assert names(folder / "b") == ["deep", "x"]
    (folder / "b" / "x").replace(folder / "y")
    assert (folder / "y").read_text() == "1"
    assert names(folder / "b") == ["deep"]
    with pytest.raises(FileExistsError):
        (folder / "y").rename(folder / "b")


def test_glob_walk_and_find(folder):
    for name in ("a.txt", "b.txt", "c/d.txt", "c/e.bin"):
        (folder / name).write_text(name)
    assert sorted(path.name for path in folder.glob("*.txt")) == ["a.txt", "b.txt"]
    assert sorted(path.name for path in folder.glob("*/*.txt")) == ["d.txt"]
    fs = fsspec.filesystem("gs")
    assert [(len(folders), len(files)) for _, folders, files in fs.walk(str(folder))] == [(1, 2), (0, 2)]
    assert len(fs.find(str(folder))) == 4


def test_a_folder_is_deleted_from_its_mark_on(folder, server):
    """A process killed meanwhile must not leave a part of a checkpoint with the sign that it is whole."""
    for name in ("z/aaa", "z/state/aaa", "z/state/commit_success.txt", "z/commit_success.txt"):
        (folder / name).write_text("")
    first = len(server.requests)
    (folder / "z").rmtree()
    deleted = [request.object for request in server.requests[first:] if request.kind == "delete"]
    assert {name.rpartition("/")[2] for name in deleted[:2]} == {"commit_success.txt"}
    assert not (folder / "z").exists()


def test_a_deletion_that_was_cut_off_is_finished_and_nothing_else_is(folder, server, monkeypatch):
    for name in ("1/state/aaa", "1/commit_success.txt", "2/state/aaa", "2/commit_success.txt", "3/state/aaa"):
        (folder / name).write_text("")
    deletions = itertools.count()
    server.fault = lambda request: Fault("503") if request.kind == "delete" and next(deletions) else None
    monkeypatch.setattr(failures, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(MachineError):  # as of a process that is killed after the first
        (folder / "1").rmtree()
    server.fault = lambda request: None
    assert names(folder) == ["1", "2", "3"]
    assert not (folder / "1" / "commit_success.txt").exists()
    assert finish_deletions(folder) == ["3"]
    assert names(folder) == ["2", "3"]
    assert (folder / "3" / "state" / "aaa").exists()


def test_looking_costs_what_the_page_says(folder, server):
    (folder / "file").write_text("1")
    for call, requests in (
        ((folder / "file").exists, {("python", "stat"): 1}),
        ((folder / "none").exists, {("python", "stat"): 1, ("python", "list"): 1}),
        ((folder / "file").read_bytes, {("python", "read"): 1}),
        (lambda: (folder / "file").write_text("2"), {("python", "write"): 1}),
        (lambda: names(folder), {("python", "list"): 1}),
    ):
        with server.counted() as counts:
            call()
        assert counts == requests


def test_fsspec_opens_for_reading_as_a_file(folder):
    (folder / "file").write_bytes(b"0123456789")
    with fsspec.open(str(folder / "file"), "rb") as file:
        assert isinstance(file, io.BufferedIOBase | io.BytesIO)
        file.seek(4)
        assert file.read(2) == b"45"
    assert fsspec.filesystem("gs").cat_file(str(folder / "file"), 2, 5) == b"234"


def test_nothing_of_a_listing_is_remembered(folder):
    assert names(folder) == []
    objects.write(f"{folder}/new", b"")  # as another process does
    assert names(folder) == ["new"]
