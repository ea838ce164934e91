"""Preparation against the pictures that went in, and what becomes of it when it is interrupted or given nonsense."""

import hashlib
import io
import itertools
import pathlib
import tarfile

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from pipeline.data.preparation import checking, datasets, fake_imagenet, image_folder, shards
from pipeline.data.preparation.digits import stratified_subset
from pipeline.data.sources import Source, open_source
from pipeline.errors import ConfigError, DataError

JPEG = b"\xff\xd8\xff\xe0 the rest is not decoded, and so need not be a picture: "
PNG = b"\x89PNG\r\n\x1a\n likewise "
CLASSES = ("cat", "dog", "owl")


def picture_folder(root: pathlib.Path, each: int = 4) -> dict[str, bytes]:
    """Writes train and test, and returns the content of each file by its path below `root`."""
    files = {}
    for split, class_name, index in itertools.product(("train", "test"), CLASSES, range(each)):
        path = f"{split}/{class_name}/{index:03d}.jpg"
        files[path] = JPEG + path.encode() + bytes(range(256))
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(files[path])
    return files


def contents(data_dir, name: str) -> dict[str, tuple[bytes, str]]:
    """Reads a dataset back: (picture, class name) by split and file name."""
    read = {}
    for split in ("train", "test"):
        source = open_source(name, split, str(data_dir))
        for record in range(len(source)):
            example = source[record]
            read[f"{split}/{source.describe(record)}"] = (example["image"], source.class_names[example["label"]])
    return read


def test_a_folder_of_pictures_is_stored_byte_for_byte(tmp_path):
    files = picture_folder(tmp_path / "pets")
    datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    expected = {path: (content, path.split("/")[1]) for path, content in files.items()}
    assert contents(tmp_path / "data", "pets") == expected


def test_tfds_reads_what_was_written(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for class_name in CLASSES:
        (tmp_path / "pets" / class_name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "pets" / class_name / "a.png"), picture[..., ::-1])  # OpenCV writes BGR
    datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    builder = tfds.builder("pets", data_dir=tmp_path / "data")
    assert builder.info.splits["train"].num_examples == 3  # classes without splits are "train"
    for example in builder.as_data_source("train"):
        np.testing.assert_array_equal(example["image"], picture)


def test_pictures_are_known_by_their_content_and_others_left_out_aloud(tmp_path, capsys):
    picture_folder(tmp_path / "pets", each=1)
    (tmp_path / "pets/train/cat/no_suffix").write_bytes(PNG)
    (tmp_path / "pets/train/cat/really_webp.jpg").write_bytes(b"RIFF\x00\x00\x00\x00WEBPVP8 ")
    (tmp_path / "pets/train/dog/notes.jpg").write_text("no picture")
    splits, classes = image_folder.folder_splits(tmp_path / "pets")
    keys = {split.name: list(split.keys) for split in splits}
    assert classes == list(CLASSES)
    assert keys["train"] == ["cat/000.jpg", "cat/no_suffix", "cat/really_webp.jpg", "dog/000.jpg", "owl/000.jpg"]
    assert "left out 1 files that are not pictures" in capsys.readouterr().out


def test_folders_that_cannot_be_a_dataset_are_refused(tmp_path):
    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message):
            image_folder.folder_splits(tmp_path / "pets")

    refused("is not a folder")
    (tmp_path / "pets").mkdir()
    refused("fewer than two classes")
    picture_folder(tmp_path / "pets")
    (tmp_path / "pets/test/bat").mkdir()
    refused(r"classes that 'train' has not: \['bat'\]")
    (tmp_path / "pets/test/bat").rmdir()
    for path in (tmp_path / "pets/train/owl").iterdir():
        path.unlink()
    refused("'owl' has no picture")
    (tmp_path / "pets/train").rename(tmp_path / "pets/training")
    refused("no folder 'train'")


def test_an_interrupted_preparation_goes_on_at_the_first_missing_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_SHARD_BYTES", 1000)
    keys = [f"{index}.jpg" for index in range(40)]
    read_now = []

    def splits(fail_after: int) -> list[shards.Split]:
        def read(index: int) -> bytes:
            if len(read_now) == fail_after:
                raise KeyboardInterrupt
            read_now.append(index)
            return JPEG + keys[index].encode()

        return [shards.Split("train", keys, [index % 2 for index in range(40)], read, picture_bytes=100)]

    directory = shards.epath.Path(tmp_path / "pets" / "1.0.0")
    with pytest.raises(KeyboardInterrupt):
        shards.write_dataset(directory, splits(fail_after=25), CLASSES[:2], "")
    assert not (directory / "dataset_info.json").exists()
    written = sorted(path.name for path in directory.glob("*.array_record-*"))
    assert written == ["pets-train.array_record-00000-of-00004", "pets-train.array_record-00001-of-00004"]
    first_shards = set(read_now[:20])

    read_now.clear()
    shards.write_dataset(directory, splits(fail_after=-1), CLASSES[:2], "")
    assert set(read_now) == set(range(40)) - first_shards
    source = Source(str(directory), "train")
    assert {source[record]["image"] for record in range(40)} == {JPEG + key.encode() for key in keys}
    assert sorted(path.name for path in directory.iterdir() if "array_record" not in path.name) == [
        "dataset_info.json",
        "features.json",
        "label.labels.txt",
    ]


def test_the_order_on_disk_is_the_hash_order_of_the_names(tmp_path):
    picture_folder(tmp_path / "pets")
    datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    source = open_source("pets", "train", str(tmp_path / "data"))
    names = [f"{class_name}/{index:03d}.jpg" for class_name in CLASSES for index in range(4)]
    expected = sorted(names, key=lambda name: hashlib.blake2b(name.encode()).digest())
    assert [source.describe(record) for record in range(12)] == expected


def test_nothing_is_overwritten(tmp_path):
    picture_folder(tmp_path / "pets")
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


def test_a_preparation_of_other_pictures_is_not_continued(tmp_path, monkeypatch):
    picture_folder(tmp_path / "pets")
    monkeypatch.setattr(shards, "write_shard", lambda *_: exit("interrupted"))
    prepare = lambda: datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    with pytest.raises(SystemExit):
        prepare()
    (tmp_path / "pets/train/cat/one_more.jpg").write_bytes(JPEG)
    with pytest.raises(DataError, match="made from other pictures"):
        prepare()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    picture_folder(tmp_path / "pets")
    (tmp_path / "data/pets/1.0.0").mkdir(parents=True)
    (tmp_path / "data/pets/1.0.0/thesis.tex").touch()
    with pytest.raises(DataError, match="neither empty nor a dataset"):
        datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))


@pytest.mark.parametrize("name", ["Pets", "my-pets", "1pets", "", "pets/1"])
def test_a_name_that_tfds_could_not_read_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="--name"):
        datasets.prepare_image_folder(str(tmp_path), name, str(tmp_path / "data"))


def tfrecord_dataset(data_dir: pathlib.Path, labels: list[int], num_classes: int = 3) -> pathlib.Path:
    features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=num_classes)}
    pictures = [(i, {"image": np.full((4, 4, 3), i, np.uint8), "label": label}) for i, label in enumerate(labels)]
    builder = tfds.dataset_builders.AdhocBuilder(
        name="records",
        version="2.3.4",
        config="small",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": pictures, "test": pictures[:3]},
        data_dir=data_dir,
        file_format="tfrecord",
    )
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)


def test_tfrecords_are_converted_in_order_with_their_metadata(tmp_path):
    old = tfrecord_dataset(tmp_path / "old", [0, 1, 2, 0, 1, 2, 2])
    new = datasets.prepare_conversion(str(old), str(tmp_path / "new"))
    assert new == tmp_path / "new/records/small/2.3.4"
    for split in ("train", "test"):
        expected = [
            (e["image"], e["label"]) for e in tfds.builder_from_directory(old).as_dataset(split).as_numpy_iterator()
        ]
        source = open_source("records/small:2.3.4", split, str(tmp_path / "new"))
        assert source.name == "records/small:2.3.4"
        assert source.class_names == ("0", "1", "2")
        for record, (picture, label) in enumerate(expected):
            decoded = cv2.imdecode(np.frombuffer(source[record]["image"], np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_array_equal(decoded, picture)
            assert source[record]["label"] == label
        assert len(source) == len(expected)


def test_a_damaged_tfrecord_is_named(tmp_path):
    old = tfrecord_dataset(tmp_path / "old", [0, 1, 2])
    shard = next(old.glob("*-train.tfrecord-*"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"records-train.tfrecord-00000-of-00001 cannot be read after record 2"):
        datasets.prepare_conversion(str(old), str(tmp_path / "new"))
    assert not (tmp_path / "new/records/small/2.3.4/dataset_info.json").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 1, 0], "1 classes have no picture in 'train', such as .'2'"),
        ([0, 1, 2, -1], "1 of 4 pictures in 'train' have no label"),
    ],
)
def test_labels_are_checked_when_a_dataset_is_prepared(tmp_path, labels, message):
    old = tfrecord_dataset(tmp_path / "old", labels)
    with pytest.raises(DataError, match=message):
        datasets.prepare_conversion(str(old), str(tmp_path / "new"))


def test_a_label_past_the_class_names_is_found(tmp_path):
    old = tfrecord_dataset(tmp_path / "old", [0, 1, 2, 3], num_classes=4)
    new = tmp_path / "new"
    new.mkdir()
    (old / "label.labels.txt").write_text("a\nb\nc\n")
    features = (old / "features.json").read_text()
    assert '"numClasses": "4"' in features
    (old / "features.json").write_text(features.replace('"numClasses": "4"', '"numClasses": "3"'))
    with pytest.raises(DataError, match="has label 3; expected 0 to 2"):
        datasets.prepare_conversion(str(old), str(new))


def test_the_check_counts_what_is_there(data_dir):
    directory = shards.epath.Path(data_dir) / "digits" / "1.0.0"
    counts = checking.json.loads((directory / "contents.json").read_text())
    totals = np.add(counts["train"]["label_counts"], counts["test"]["label_counts"])
    # https://scikit-learn.org/stable/datasets/toy_dataset.html: about 180 samples of each of the ten digits
    assert totals.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_test_digits_have_each_class_in_its_share(data_dir):
    test = open_source("digits", "test", data_dir)
    counts = np.bincount([test[record]["label"] for record in range(len(test))])
    shares = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180]) * 360 / 1797
    assert (np.abs(counts - shares) < 1).all()


def test_a_stratified_subset_gives_the_odd_ones_to_the_largest_remainders():
    labels = np.array([0] * 5 + [1] * 3 + [2] * 2)  # shares of 4: 2.0, 1.2, 0.8
    assert np.bincount(labels[stratified_subset(labels, 4)]).tolist() == [2, 1, 1]


def test_fake_imagenet_has_real_jpegs_of_the_usual_size_in_all_classes():
    train, validation = fake_imagenet.fake_imagenet_splits(2000, 1000)
    assert (len(set(train.labels)), len(set(validation.labels))) == (1000, 1000)
    pictures = [train.read(index) for index in (0, 1, 1000)]
    assert len(set(pictures)) == 3
    assert train.read(0) == pictures[0] != validation.read(0)
    assert 80_000 < np.mean([len(picture) for picture in pictures]) < 130_000
    decoded = [cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) for picture in pictures]
    assert {picture.shape for picture in decoded} == {(375, 500, 3)}


def test_the_archives_of_imagenet_become_a_dataset(tmp_path):
    """Two small archives in the layout of ILSVRC 2012, with one picture for each class."""
    from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

    synsets = pathlib.Path(imagenet_common.label_names_file()).read_text().split()
    picture = cv2.imencode(".jpg", np.zeros((2, 2, 3), np.uint8))[1].tobytes()

    def archive(members: dict[str, bytes]) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return file.getvalue()

    (tmp_path / "manual").mkdir()
    train = {f"{synset}.tar": archive({f"{synset}_1.JPEG": picture}) for synset in synsets}
    (tmp_path / "manual/ILSVRC2012_img_train.tar").write_bytes(archive(train))
    validation = archive({f"ILSVRC2012_val_{index:08d}.JPEG": picture for index in range(1, 4)})
    (tmp_path / "manual/ILSVRC2012_img_val.tar").write_bytes(validation)
    datasets.prepare_tfds("imagenet2012", str(tmp_path / "data"), str(tmp_path / "manual"))

    source = open_source("imagenet2012", "train", str(tmp_path / "data"))
    assert (len(source), source.num_classes) == (1000, 1000)
    assert {source.describe(r).split("_")[0] for r in range(1000)} == set(synsets)
    assert all(source.describe(r).startswith(source.class_names[source[r]["label"]]) for r in range(1000))
    source = open_source("imagenet2012", "validation", str(tmp_path / "data"))
    # The published labels of the first three validation pictures: sea snake, alp, Shetland sheepdog.
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
