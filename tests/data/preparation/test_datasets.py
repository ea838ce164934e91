"""What can be prepared, what is refused, and that a finished dataset is never touched."""

import io
import os
import pathlib
import socket
import tarfile
import threading

import cv2
import numpy as np
import pytest
import urllib3
from making import make_image_folder

from pipeline.data.preparation import datasets
from pipeline.data.sources import open_source
from pipeline.errors import ConfigError, DataError, MachineError
from pipeline.host.locking import files


def test_nothing_is_overwritten(tmp_path):
    make_image_folder(tmp_path / "pets")
    prepare = lambda: datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    directory = prepare()
    with pytest.raises(DataError, match="already holds a finished dataset"):
        prepare()
    (directory / "contents.json").unlink()  # killed before its check: only that is left to do
    before = {path.name: path.stat().mtime for path in directory.iterdir()}
    prepare()
    after = {path.name: path.stat().mtime for path in directory.iterdir()}
    assert after.pop("contents.json")
    assert after == before


def test_what_an_error_left_of_a_shard_is_no_shard(tmp_path):
    make_image_folder(tmp_path / "pets")
    prepare = lambda: datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    directory = prepare()
    (directory / "contents.json").unlink()
    shard = next(directory.glob("*train.array_record*"))
    # As an upload to gs:// leaves it that failed.
    shard.with_name(f"incomplete.{shard.name}").write_bytes(shard.read_bytes()[:1000])
    prepare()
    assert (directory / "contents.json").exists()


@pytest.mark.parametrize("name", ["Pets", "my-pets", "1pets", "", "pets/1"])
def test_a_name_that_tfds_could_not_read_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="--name"):
        datasets.prepare_image_folder(str(tmp_path), name, str(tmp_path / "data"))


@pytest.mark.slow
def test_the_archives_of_imagenet_become_a_dataset(tmp_path):
    """Two small archives in the layout of ILSVRC 2012, with one image for each class."""
    from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

    synsets = pathlib.Path(imagenet_common.label_names_file()).read_text().split()
    image = cv2.imencode(".jpg", np.zeros((2, 2, 3), np.uint8))[1].tobytes()

    def archive(members: dict[str, bytes]) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return file.getvalue()

    (tmp_path / "manual").mkdir()
    train = {f"{synset}.tar": archive({f"{synset}_1.JPEG": image}) for synset in synsets}
    (tmp_path / "manual/ILSVRC2012_img_train.tar").write_bytes(archive(train))
    validation = archive({f"ILSVRC2012_val_{index:08d}.JPEG": image for index in range(1, 4)})
    (tmp_path / "manual/ILSVRC2012_img_val.tar").write_bytes(validation)
    datasets.prepare_tfds("imagenet2012", str(tmp_path / "data"), str(tmp_path / "manual"))

    source = open_source("imagenet2012", "train", str(tmp_path / "data"))
    assert (len(source), source.num_classes) == (1000, 1000)
    assert {source.describe(r).split("_")[0] for r in range(1000)} == set(synsets)
    assert all(source.describe(r).startswith(source.class_names[source[r]["label"]]) for r in range(1000))
    source = open_source("imagenet2012", "validation", str(tmp_path / "data"))
    # The published labels of the first three validation images: sea snake, alp, Shetland sheepdog.
    labels = {source.describe(r): source.class_names[source[r]["label"]] for r in range(3)}
    assert labels == {
        "ILSVRC2012_val_00000001.JPEG": "n01751748",
        "ILSVRC2012_val_00000002.JPEG": "n09193705",
        "ILSVRC2012_val_00000003.JPEG": "n02105855",
    }


def test_archives_that_are_missing_are_named(tmp_path):
    with pytest.raises(DataError, match=r"(?s)imagenet2012 cannot be prepared.*ILSVRC2012_img_train.tar"):
        datasets.prepare_tfds("imagenet2012", str(tmp_path), str(tmp_path / "nothing"))


def test_a_dataset_that_tfds_does_not_have_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="tfds has no such dataset"):
        datasets.prepare_tfds("my_pets", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "said"),
    [("mnist:9.9.9", "only: 3.0.1"), ("mnist/letters", "letters not found"), ("../mnist", "../mnist")],
)
def test_a_version_or_configuration_that_tfds_does_not_have_is_one_line(tmp_path, name, said):
    with pytest.raises(ConfigError) as caught:
        datasets.prepare_tfds(name, str(tmp_path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_download_without_a_network_is_one_line(tmp_path, monkeypatch):
    """The downloader of tfds itself, sent to a port of this machine on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(variable, nobody)
        monkeypatch.setattr(urllib3.util.Retry, "get_backoff_time", lambda retry: 0)
        with pytest.raises(MachineError, match=r"^mnist cannot be downloaded: .*Mend the connection") as caught:
            datasets.prepare_tfds("mnist", str(tmp_path))
    assert "\n" not in str(caught.value)


def test_of_two_processes_that_prepare_the_digits_one_wins(tmp_path, monkeypatch):
    prepare_digits = datasets.prepare_digits

    def overtaken(data_dir: str):
        """Prepares its own copy, and in the meantime another process has finished."""
        prepare_digits(str(tmp_path))
        return prepare_digits(data_dir)

    monkeypatch.setattr(datasets, "prepare_digits", overtaken)
    datasets.ensure_digits(str(tmp_path))
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]
    assert len(open_source("digits", "train", str(tmp_path))) == 1437
    monkeypatch.setattr(datasets, "prepare_digits", None)  # not called again
    datasets.ensure_digits(str(tmp_path))


def test_a_second_preparation_of_a_folder_is_refused_and_told_by_whom(tmp_path):
    (tmp_path / "digits").mkdir()
    with files.held(str(tmp_path / "digits/.1.0.0.lock")):
        with pytest.raises(ConfigError, match=f"/digits is in use by process {os.getpid()} on "):
            datasets.prepare_digits(str(tmp_path))
        assert not (tmp_path / "digits/1.0.0").exists()
    datasets.prepare_digits(str(tmp_path))
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_processes_that_want_the_same_digits_wait_for_the_first(tmp_path):
    directory = tmp_path / "digits/1.0.0"
    directory.mkdir(parents=True)  # a preparation was begun
    datasets.prepare_digits(str(tmp_path / "other"))
    begun, found = threading.Event(), []

    def want():
        begun.set()
        datasets.ensure_digits(str(tmp_path))
        found.append((directory / "contents.json").read_text())

    with files.held(str(tmp_path / "digits/.1.0.0.lock")):
        thread = threading.Thread(target=want)
        thread.start()
        begun.wait()
        for path in (tmp_path / "other/digits/1.0.0").iterdir():
            path.rename(directory / path.name)
    thread.join()
    assert found == [(directory / "contents.json").read_text()]
