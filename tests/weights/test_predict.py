"""`pipeline.predict` with what people have: folders, patterns, lists, and files that are not images among them."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from pipeline.weights import directory
from tests import forks
from tests.runs import ROOT
from tests.weights.samples import random_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    weights = random_weights("mini0", num_classes=3, image_size=16, class_names=("red", "green", "blue"))
    folder = tmp_path_factory.mktemp("weights") / "weights"
    with directory.appearing(folder) as temporary:
        directory.write(weights, temporary)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two folders with three images, a damaged one, a text, and hidden files."""
    root = tmp_path_factory.mktemp("images")
    for name in ("a/1.png", "a/2.jpg", "b/3.png", ".hidden/4.png"):
        (root / name).parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (30, 40, 3), np.uint8)
        cv2.imwrite(str(root / name), pixels)
    (root / "a" / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    (root / "a" / "notes.txt").write_text("text")
    return root


def predict(weights, *words, text: bytes = b""):
    end = forks.run("-m", "pipeline.predict", "--weights", *map(os.fspath, [weights, "--json", *words]), text=text)
    assert "Traceback" not in end.stderr
    lines = [json.loads(line) for line in end.stdout.splitlines()]
    return end.returncode, {line["picture"]: line.get("error") for line in lines}, end.stderr


def test_what_cannot_be_read_is_reported_in_its_place(weights, images):
    good, bad = str(images / "a/1.png"), str(images / "a/bad.jpg")
    url, gone, text = "https://host/cat.jpg", str(images / "gone.jpg"), str(images / "a/notes.txt")
    named = [bad, good, url, gone, text, str(images / "b/3.png")]
    code, found, errors = predict(weights, *named)
    assert code == 65
    assert list(found) == named
    assert found[good] is None
    assert found[named[-1]] is None
    assert "cut off" in found[bad]
    assert "it is a URL, and nothing is downloaded here" in found[url]
    assert found[gone] == "No such file or directory"
    assert "unknown image format" in found[text]
    assert errors.splitlines()[-1].startswith(f"Error: 4 of 6 could not be read, the first {bad}: ")


def test_a_folder_a_pattern_and_a_list_name_the_same_images(weights, images):
    names = [str(images / name) for name in ("a/1.png", "a/2.jpg", "b/3.png")]
    folder = predict(weights, images)
    assert list(folder[1]) == [names[0], names[1], str(images / "a/bad.jpg"), names[2]]
    assert f"{images}: left out 1 hidden folder(s), 1 file(s) that are not images\n" in folder[2]
    code, found, _ = predict(weights, images / "*" / "[0-9].*g")
    assert (code, list(found)) == (0, names)
    listed = "\n".join([*names[:2], "", names[2]]).encode()
    assert predict(weights, "-", text=listed)[:2] == (0, dict.fromkeys(names))


def test_words_that_mean_nothing_are_errors(weights, images, tmp_path):
    (tmp_path / "empty").mkdir()
    code, found, _ = predict(weights, images / "*.tif", tmp_path / "empty", "-")
    assert code == 65
    assert list(found.values()) == ["nothing matches this pattern", "there is no image in this folder"]
    code, found, errors = predict(weights, "-", text=b"\n")
    assert (code, found) == (65, {})
    assert errors.splitlines()[-1] == "Error: no image was named on standard input"
    assert predict(weights)[0] == 78


def test_names_with_brackets_and_names_that_are_no_text_are_names(weights, images, tmp_path):
    for name in (b"cat[1].png", b"caf\xe9.png"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write((images / "a/1.png").read_bytes())
    code, found, _ = predict(weights, tmp_path / "cat[1].png", tmp_path)
    assert (code, set(found.values())) == (0, {None})
    assert [os.path.basename(name) for name in found] == ["cat[1].png", os.fsdecode(b"caf\xe9.png")]


def test_class_names_from_an_editor_that_marks_utf8_are_those_names(weights, images, tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffröd\r\ngreen\r\nblue\r\n".encode())
    command = ["-m", "pipeline.predict", "--weights", weights, "--json", "--class_names", tmp_path / "names.txt"]
    end = forks.run(*map(os.fspath, command), str(images / "a/1.png"))
    assert {row["name"] for row in json.loads(end.stdout)["classes"]} == {"röd", "green", "blue"}


def test_images_are_read_when_their_turn_comes(weights, images):
    """The first answer is there before the second name is."""
    command = [sys.executable, "-m", "pipeline.predict", "--weights", weights, "--json", "-"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True)
    for name in ("a/1.png", "b/3.png"):
        process.stdin.write(f"{images / name}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["picture"] == str(images / name)
    process.stdin.close()
    assert process.wait() == 0
