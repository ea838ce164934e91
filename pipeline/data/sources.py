"""Opens a prepared tfds dataset for random access: record number -> undecoded image and label.

Owns where datasets are looked for and what is read of them. Never downloads, prepares or changes anything, and needs
neither TensorFlow nor JAX: it runs in the worker processes too. A source is a pure function of (folder, split): equal
records and an equal fingerprint on every host.
"""

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from pipeline.data.records import Records, Shard
from pipeline.errors import DataError, MachineError
from pipeline.host import open_files
from pipeline.host.paths import command_line, expanded
from pipeline.storage.staging import StagedFiles, Staging

DEFAULT_DATA_DIR = "data"
INFO_FILE = "dataset_info.json"  # what makes a folder a tfds dataset
CONTENTS_FILE = "contents.json"  # what `python -m pipeline.prepare` found in each split
_FILE_NAME = "file_name"  # the feature by which ImageNet and the datasets that we prepare name an image
_LABELS_SAMPLED = 100


def open_source(name: str, split: str, data_dir: str | None = None) -> "Source":
    """Opens a split of a prepared dataset and checks its shards and labels, without reading all of it.

    Args:
        name: "dataset", "dataset:version" or "dataset/config:version"; without a version the highest one there is.
        split: in the tfds split language, such as "train", "train[:-10000]" or "train[20shard:]".
        data_dir: the folder or gs:// path that holds it; without it $TFDS_DATA_DIR, then ./data.

    Raises:
        DataError: it is not there (the message has the command that prepares it), or it is damaged or has no labels.
    """
    source = Source(os.fspath(find_dataset(name, data_dir)), split)
    source.check_shards()
    source.check_labels()
    return source


def stage(place: str, sources: Sequence["Source"], root: str | None = None) -> Staging:
    """Begins to copy the shards of sources to this machine, whose readers take the copies as they appear.

    Args:
        place: "disk" or "memory".
        sources: of one dataset; workers that are started from now on know of the copies.
        root: the folder for the copies, instead of that of the place.

    Raises:
        ConfigError: there is no room.
    """
    staging = Staging(place, [shard.filename for source in sources for shard in source.shards], root=root)
    for source in sources:
        source.read_copies(staging.files)
    return staging


class Source:
    """The records of one split. Pickles without open files and without what only the parent needs of the metadata.

    Attributes:
        name: "dataset:version" or "dataset/config:version".
        directory: `<data_dir>/<dataset>[/<config>]/<version>`.
        split: what was asked for, in the tfds split language.
        num_classes: int.
        class_names: tuple of text, one for each class.
        fingerprint: 16 hexadecimal digits; differs when the data differ.
        remote: whether reading goes over the network.
    """

    def __init__(self, directory: str, split: str):
        """Opens `split` of the dataset in `directory`.

        Raises:
            DataError: the dataset is not for random access, has no labelled images, or the split does not exist.
        """
        self.directory = directory
        self.split = split
        self.remote = "://" in directory
        builder = open_builder(directory)
        self._info = builder.info
        self.name = f"{self._info.full_name.rpartition('/')[0]}:{self._info.version}"
        if self._info.file_format.value != "array_record":
            raise DataError(
                f"{directory} is stored as {self._info.file_format.value}, which cannot be read in random order. "
                "Convert it once: "
                + command_line("-m", "pipeline.prepare", "--convert", directory, "--data_dir", "ANOTHER_FOLDER")
            )
        self._image_key, self._label_key = labelled_image_keys(self._info, directory)
        self.class_names = tuple(self._info.features[self._label_key].names)
        self.num_classes = len(self.class_names)
        try:
            parts = self._info.splits[split].file_instructions
            self._records = Records(
                [Shard(part.filename, part.skip, part.take, part.examples_in_shard) for part in parts]
            )
            if not len(self._records):
                raise ValueError("it has no record")
        except (ValueError, KeyError) as error:
            splits = ", ".join(f"{name} ({split.num_examples:,})" for name, split in self._info.splits.items())
            raise DataError(f"{self.name} has no split {split!r}, or it is empty. It has: {splits}.") from error
        self._names_files = isinstance(dict(self._info.features).get(_FILE_NAME), tfds.features.Text)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, record: int) -> dict:
        """Returns `{"image": bytes, "label": int}`.

        Raises:
            DataError: the label is not a class (such as -1, which means unknown).
        """
        image, label = self.read(record)
        return {"image": image, "label": self.checked_label(record, label)}

    def __repr__(self) -> str:
        return f"Source({self.name}, split={self.split!r}, fingerprint={self.fingerprint})"

    def __getstate__(self) -> dict:
        fingerprint = self.fingerprint  # a worker process cannot compute it without the metadata
        return {**vars(self), "fingerprint": fingerprint, "_info": None}

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The files, or parts of files, that hold the records."""
        return self._records.shards

    def read_copies(self, copies: StagedFiles) -> None:
        """Reads each shard from its copy as soon as there is one."""
        self._records.staged = copies

    def read(self, record: int) -> tuple[bytes, int]:
        """Returns the image and the label as they are stored.

        Raises:
            DataError, MachineError, ConfigError: see `Records`.
        """
        try:
            return self._image_and_label(_features(self._records[record]))
        except (DataError, MachineError) as error:
            raise type(error)(f"Record {record} of {self!r} cannot be read: {error}") from error

    def in_order(self) -> Iterator[tuple[bytes, int]]:
        """Yields what `read` returns of every record, in order, by large reads: for whoever reads all of them once."""
        for record in self._records.in_order():
            yield self._image_and_label(_features(record))

    def _image_and_label(self, features: Mapping[str, tf_feature_pb2.Feature]) -> tuple[bytes, int]:
        return features[self._image_key].bytes_list.value[0], features[self._label_key].int64_list.value[0]

    def checked_label(self, record: int, label: int) -> int:
        """Returns `label`; raises DataError when it is not a class."""
        if not 0 <= label < self.num_classes:
            raise DataError(
                f"Record {record} ({self.describe(record)}) of {self.name} split {self.split!r} has label {label}; "
                f"expected 0 to {self.num_classes - 1}."
            )
        return label

    def describe(self, record: int) -> str:
        """Returns the name of the image's file, if the dataset knows it, for messages."""
        if not self._names_files:
            return "without file name"
        try:
            return _features(self._records[record])[_FILE_NAME].bytes_list.value[0].decode()
        except Exception as error:  # a description must not hide the error that it is for
            return f"unreadable: {error}"

    def check_shards(self) -> None:
        """Raises DataError when a shard of a split that is read is not there, ConfigError when all cannot be open at once."""
        present = {path.name for path in epath.Path(self.directory).iterdir()}
        expected = [os.path.basename(path) for name in self._whole_splits for path in self._info.splits[name].filepaths]
        missing = [name for name in expected if name not in present]
        if missing:
            raise DataError(
                f"{self.directory} lacks {len(missing)} of {len(expected)} shards, such as {missing[0]}. "
                "Copy them there again, or delete the folder and prepare the dataset anew."
            )
        if not self.remote:
            open_files.make_room(self, len(expected), f"reading {self.name} split {self.split!r} at random")

    def check_labels(self) -> None:
        """Raises DataError when a label is not a class, by what the preparation counted, else by a sample."""
        counted = [name for name in self._whole_splits if name in self._contents]
        for name in counted:
            if unlabelled := self._contents[name]["unlabelled"]:
                raise DataError(f"{self.name}: {unlabelled:,} examples of split {name!r} have no label (-1).")
        if not counted:
            samples = min(len(self), _LABELS_SAMPLED)
            for record in (i * len(self) // samples for i in range(samples)):
                self.checked_label(record, self.read(record)[1])

    @functools.cached_property
    def fingerprint(self) -> str:
        """See the class."""
        content = {
            "name": self.name,
            "split": self.split,
            "records": len(self),
            "classes": self.class_names,
            "shards": {name: (split.shard_lengths, int(split.num_bytes)) for name, split in self._info.splits.items()},
            "checksums": {name: split["sha256"] for name, split in self._contents.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @functools.cached_property
    def _contents(self) -> dict:
        path = epath.Path(self.directory) / CONTENTS_FILE
        try:
            return json.loads(path.read_bytes()) if path.exists() else {}
        except ValueError as error:
            raise DataError(
                f"{path} is damaged ({error}). Delete it, and `python -m pipeline.prepare` with the same arguments as "
                "before checks the dataset again"
            ) from error

    @property
    def _whole_splits(self) -> list[str]:
        """The splits that `split` takes from: ["train", "test"] of "train[:90%]+test"."""
        return re.findall(r"(?:^|\+)\s*(\w+)", self.split)


def _features(record: bytes) -> Mapping[str, tf_feature_pb2.Feature]:
    """Returns the features of the `tf.train.Example` that a record is; tfds's own parser takes three times as long."""
    return tf_example_pb2.Example.FromString(record).features.feature


def open_builder(directory: str | os.PathLike) -> tfds.core.DatasetBuilder:
    """Returns tfds's view of the dataset in a folder.

    Raises:
        DataError: its metadata are damaged.
    """
    try:
        return tfds.builder_from_directory(directory)
    except OSError:
        raise
    except Exception as error:  # tfds raises whatever its parsers do
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"the metadata of the dataset in {directory} ({INFO_FILE}, features.json) cannot be read: {reason}. Copy them "
            "there again, or delete the folder and prepare the dataset anew."
        ) from error


def resolve_data_dir(data_dir: str | None) -> epath.Path:
    """Returns `data_dir`, or $TFDS_DATA_DIR, or ./data, as an absolute path."""
    path = epath.Path(expanded(data_dir or os.environ.get("TFDS_DATA_DIR") or DEFAULT_DATA_DIR))
    return path if "://" in os.fspath(path) else epath.Path(os.path.abspath(path))


def find_dataset(name: str, data_dir: str | None = None) -> epath.Path:
    """Returns the folder `<data_dir>/<dataset>[/<config>]/<version>`; arguments and errors as `open_source`."""
    match = re.fullmatch(r"(\w+)(?:/([\w.+-]+))?(?::(\d+\.\d+\.\d+))?", name)
    if match is None:
        raise DataError(f"{name!r} names no dataset. Expected dataset, dataset:version or dataset/config:version.")
    dataset, config, version = match.groups()
    root = resolve_data_dir(data_dir)
    parent = root / dataset / config if config else root / dataset
    versions = _prepared_versions(parent)
    if version is None and versions:
        version = max(versions, key=lambda found: tuple(map(int, found.split("."))))
    if version not in versions:
        found = f" (found: {', '.join(versions)})" if versions else ""
        raise DataError(
            f"No prepared dataset {name!r} in {root}{found}. "
            "Prepare it once: " + command_line("-m", "pipeline.prepare", *_prepare_arguments(name), "--data_dir", root)
        )
    return parent / version


def _prepared_versions(parent: epath.Path) -> list[str]:
    if not parent.exists():
        return []
    names = [path.name for path in parent.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return sorted(name for name in names if (parent / name / INFO_FILE).exists())


def _prepare_arguments(name: str) -> list[str]:
    dataset = re.split("[/:]", name)[0]
    if dataset == "imagenet2012":
        return ["--dataset", name, "--manual_dir", "FOLDER_OF_THE_ARCHIVES"]
    if dataset in ("digits", "fake_imagenet") or dataset in tfds.list_builders(with_community_datasets=False):
        return ["--dataset", name]
    return ["--image_folder", "FOLDER", "--name", dataset]


def labelled_image_keys(info: tfds.core.DatasetInfo, directory: str) -> tuple[str, str]:
    """Returns the names of the image and of its class among the features."""
    features = dict(info.features)
    image, label = info.supervised_keys or ("image", "label")
    if not isinstance(features.get(image), tfds.features.Image):
        raise DataError(f"{directory} has no image {image!r}: its features are {sorted(features)}.")
    if not isinstance(features.get(label), tfds.features.ClassLabel) or not features[label].names:
        raise DataError(f"{directory} has no class {label!r} with names: its features are {sorted(features)}.")
    return image, label
