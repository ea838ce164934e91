"""Which files of a folder become examples, and which folders are refused."""

import os
import socket

import pytest
from making import CLASSES, JPEG, PNG, contents, make_image_folder

from pipeline.data.preparation import datasets, image_folder
from pipeline.errors import DataError


def test_images_are_known_by_their_content_and_others_left_out_aloud(tmp_path, capsys):
    make_image_folder(tmp_path / "pets", each=1)
    (tmp_path / "pets/train/cat/no_suffix").write_bytes(PNG)
    (tmp_path / "pets/train/cat/really_webp.jpg").write_bytes(b"RIFF\x00\x00\x00\x00WEBPVP8 ")
    (tmp_path / "pets/train/dog/notes.jpg").write_text("no image")
    splits, classes = image_folder.folder_splits(tmp_path / "pets")
    keys = {split.name: list(split.keys) for split in splits}
    assert classes == list(CLASSES)
    assert keys["train"] == ["cat/000.jpg", "cat/no_suffix", "cat/really_webp.jpg", "dog/000.jpg", "owl/000.jpg"]
    assert "left out 1 file(s) that are not images, such as train/dog/notes.jpg" in capsys.readouterr().out


def test_folders_that_cannot_be_a_dataset_are_refused(tmp_path):
    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message):
            image_folder.folder_splits(tmp_path / "pets")

    refused("is not a folder")
    (tmp_path / "pets").mkdir()
    refused("fewer than two classes")
    make_image_folder(tmp_path / "pets")
    (tmp_path / "pets/test/bat").mkdir()
    refused(r"classes that 'train' lacks: \['bat'\]")
    (tmp_path / "pets/test/bat").rmdir()
    for path in (tmp_path / "pets/train/owl").iterdir():
        path.unlink()
    refused("'owl' has no image")
    (tmp_path / "pets/train").rename(tmp_path / "pets/training")
    refused("no folder 'train'")


def left_out(root, capsys) -> dict[str, str]:
    """Reads the folder and returns the lines that say what was left out, by their examples."""
    splits, classes = image_folder.folder_splits(root)
    assert classes == list(CLASSES)
    assert {split.name: len(split.keys) for split in splits} == {"train": 3, "test": 3}
    lines = [line.removeprefix(f"{root}: left out ") for line in capsys.readouterr().out.splitlines()]
    return {example: what for what, _, example in (line.partition(", such as ") for line in lines)}


def hidden_folder(root):
    for name in ("1.jpg", "2.jpg"):
        (root / ".ipynb_checkpoints").mkdir(exist_ok=True)
        (root / ".ipynb_checkpoints" / name).write_bytes(JPEG)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as file:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path may have 107 bytes
        file.bind(path.name)
        os.chdir(here)


INSIDE, DOT = "1 folder(s) inside a class", "1 folder(s) whose name begins with a dot"
WITH_TWO = ", with 2 file(s)"
LOOSE = "1 file(s) directly in {}, which are in no class"
BROKEN, PIPE = "1 link(s) that lead nowhere", "1 pipe(s), socket(s) or device(s)"


@pytest.mark.parametrize(
    ("make", "example", "what"),
    [
        (lambda root: hidden_folder(root / "train/cat"), "train/cat/.ipynb_checkpoints", INSIDE + WITH_TWO),
        (lambda root: (root / "train/cat/old").mkdir(), "train/cat/old", INSIDE),
        (lambda root: (root / "train/dog/up").symlink_to(root), "train/dog/up", INSIDE),
        (lambda root: hidden_folder(root / "train"), "train/.ipynb_checkpoints", DOT + WITH_TWO),
        (lambda root: hidden_folder(root), ".ipynb_checkpoints", DOT + WITH_TWO),
        (lambda root: (root / "train/9.jpg").write_bytes(JPEG), "train/9.jpg", LOOSE.replace("{}", "{root}/train")),
        (lambda root: (root / "README").write_text(""), "README", LOOSE.replace("{}", "{root}")),
        (lambda root: (root / "test/dog/gone.jpg").symlink_to("nowhere"), "test/dog/gone.jpg", BROKEN),
        (lambda root: (root / "test/dog/loop.jpg").symlink_to("loop.jpg"), "test/dog/loop.jpg", BROKEN),
        (lambda root: (root / "test/loop").symlink_to("loop"), "test/loop", BROKEN),
        (lambda root: os.mkfifo(root / "train/owl/pipe.jpg"), "train/owl/pipe.jpg", PIPE),
        (lambda root: a_socket(root / "train/owl/socket"), "train/owl/socket", PIPE),
    ],
)
def test_whatever_holds_no_image_of_a_class_is_named(tmp_path, capsys, make, example, what):
    root = tmp_path / "pets"
    make_image_folder(root, each=1)
    make(root)
    assert left_out(root, capsys) == {example: what.format(root=root)}


@pytest.mark.parametrize("name", ["my split", "my-split", "été", "2nd", "test.old", os.fsdecode(b"caf\xe9")])
def test_a_split_that_a_dataset_cannot_have_is_refused_before_anything_is_written(tmp_path, name):
    make_image_folder(tmp_path / "pets", each=1)
    (tmp_path / "pets/test").rename(tmp_path / "pets" / name)
    with pytest.raises(DataError, match=r"cannot be a split.*Rename the folder"):
        datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    assert not list(tmp_path.rglob("*.array_record*"))


@pytest.mark.parametrize("name", [" cat", "cat\n", "a\tb", os.fsdecode(b"caf\xe9")])
def test_a_class_whose_name_would_not_come_back_is_refused_before_anything_is_written(tmp_path, name):
    make_image_folder(tmp_path / "pets", each=1)
    (tmp_path / "pets/train/cat").rename(tmp_path / "pets/train" / name)
    with pytest.raises(DataError, match=r"cannot be a class.*Rename the folder"):
        datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    assert not list(tmp_path.rglob("*.array_record*"))


def test_file_names_of_any_bytes_and_classes_of_any_letters_are_prepared(tmp_path):
    root = tmp_path / os.fsdecode(b"d\xe9p\xf4t")
    files = make_image_folder(root, each=1)
    (root / "train/cat/000.jpg").rename(root / "train/cat" / os.fsdecode(b"caf\xe9.jpg"))
    for split in ("train", "test"):
        (root / split / "owl").rename(root / split / "chouette 夜鷹")
    datasets.prepare_image_folder(str(root), "pets", str(tmp_path / "data"))
    found = contents(tmp_path / "data", "pets")
    assert found["train/cat/caf\\xe9.jpg"] == (files["train/cat/000.jpg"], "cat")
    assert found["test/chouette 夜鷹/000.jpg"] == (files["test/owl/000.jpg"], "chouette 夜鷹")


def test_two_files_that_would_be_shown_alike_are_refused(tmp_path):
    make_image_folder(tmp_path / "pets", each=1)
    for name in (b"\xe9.png", rb"\xe9.png"):
        (tmp_path / "pets/train/dog" / os.fsdecode(name)).write_bytes(PNG)
    with pytest.raises(
        DataError, match=r"pets/train has two files whose names are shown as 'dog/\\\\xe9.png'. Rename one"
    ):
        image_folder.folder_splits(tmp_path / "pets")


def test_a_file_that_cannot_be_read_refuses_the_folder(tmp_path, monkeypatch):
    make_image_folder(tmp_path / "pets", each=1)
    (tmp_path / "pets/test/cat/000.jpg").unlink()
    (tmp_path / "pets/test/cat/000.jpg").symlink_to("/proc/self/mem")  # a file whose first byte cannot be read
    with pytest.raises(DataError, match=r"test/cat/000.jpg cannot be read: Input/output error"):
        image_folder.folder_splits(tmp_path / "pets")


def test_folders_inside_classes_do_not_make_splits_of_them(tmp_path, capsys):
    make_image_folder(tmp_path / "pets", each=1)
    (tmp_path / "pets/train/cat/old").mkdir()
    splits, classes = image_folder.folder_splits(tmp_path / "pets/train")
    assert ([split.name for split in splits], classes) == (["train"], list(CLASSES))
    assert "left out 1 folder(s) inside a class, such as cat/old" in capsys.readouterr().out
