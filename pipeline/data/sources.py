"""Opens a prepared tfds dataset for random access: from the number of a record to its undecoded image and label.

A source is a pure function of folder and split, with equal records and an equal fingerprint on every host. It only reads. It
needs neither TensorFlow nor JAX, because it also runs in the worker processes.
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
from pipeline.errors import ConfigError, DataError, MachineError
from pipeline.host import open_files
from pipeline.host.paths import absolute, command_line, expanded
from pipeline.host.printable import is_utf8, printable
from pipeline.storage.staging import StagedFiles, Staging

DEFAULT_DATA_DIR = "data"
INFO_FILE = "dataset_info.json"  # its presence makes a folder a tfds dataset
CONTENTS_FILE = "contents.json"  # what `python -m pipeline.prepare` found in each split
_FILE_NAME = "file_name"  # the feature with an image's file name, in ImageNet and in the datasets that we prepare
_LABELS_SAMPLED = 100
# protobuf makes the classes of these modules when they are imported.
_Example = tf_example_pb2.Example  # pyrefly: ignore[missing-attribute]
_Feature = tf_feature_pb2.Feature  # pyrefly: ignore[missing-attribute]


def open_source(name: str, split: str, data_dir: str | None = None) -> "Source":
    """Opens a split of a prepared dataset and checks its shards and labels, without reading all of it.

    Args:
        name: "dataset", "dataset:version" or "dataset/config:version"; the default version is the highest prepared one.
        split: in the tfds split language, such as "train", "train[:-10000]" or "train[20shard:]".
        data_dir: the folder or gs:// path of the datasets; by default $TFDS_DATA_DIR, then ./data.

    Raises:
        DataError: the dataset is missing (the message has the command that prepares it), damaged or without labels.
    """
    source = Source(os.fspath(find_dataset(name, data_dir)), split)
    source.check_shards()
    source.check_labels()
    return source


def stage(place: str, sources: Sequence["Source"], root: str | None = None) -> Staging:
    """Begins to copy the shards of sources to this machine; the sources read the copies as they become complete.

    Args:
        place: "disk" or "memory".
        sources: sources of one dataset. Workers must be started afterwards to know of the copies.
        root: the folder for the copies; by default that of `place`.

    Raises:
        ConfigError: there is not enough room.
    """
    staging = Staging(place, [shard.filename for source in sources for shard in source.shards], root=root)
    for source in sources:
        source.read_copies(staging.files)
    return staging


class Source:
    """The records of one split. It pickles without open files and without the metadata that only the parent needs.

    Attributes:
        name: "dataset:version" or "dataset/config:version".
        directory: `<data_dir>/<dataset>[/<config>]/<version>`.
        split: the requested split, in the tfds split language.
        num_classes: int.
        class_names: tuple of text, one for each class.
        fingerprint: 16 hexadecimal digits that identify the data.
        remote: whether the data are read over the network.
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
        """Makes the source read each shard from its copy once there is one."""
        self._records.staged = copies

    def read(self, record: int) -> tuple[bytes, int]:
        """Returns the image and the label as stored.

        Raises:
            DataError, MachineError, ConfigError: see `Records`.
        """
        try:
            return self._image_and_label(_features(self._records[record]))
        except (DataError, MachineError) as error:
            raise type(error)(f"Record {record} of {self!r} cannot be read: {error}") from error

    def in_order(self) -> Iterator[tuple[bytes, int]]:
        """Yields the result of `read` for every record, in order, by large reads."""
        for record in self._records.in_order():
            yield self._image_and_label(_features(record))

    def _image_and_label(self, features: Mapping[str, _Feature]) -> tuple[bytes, int]:
        return features[self._image_key].bytes_list.value[0], features[self._label_key].int64_list.value[0]

    def checked_label(self, record: int, label: int) -> int:
        """Returns `label`; raises DataError if it is not a class."""
        if not 0 <= label < self.num_classes:
            raise DataError(
                f"Record {record} ({self.describe(record)}) of {self.name} split {self.split!r} has label {label}; "
                f"expected 0 to {self.num_classes - 1}."
            )
        return label

    def describe(self, record: int) -> str:
        """Returns the file name of the image, if the dataset has it, for messages."""
        if not self._names_files:
            return "without file name"
        try:
            return _features(self._records[record])[_FILE_NAME].bytes_list.value[0].decode()
        except Exception as error:  # must not hide the error that is being described
            return f"unreadable: {error}"

    def check_shards(self) -> None:
        """Raises DataError if a shard of the split is missing, and ConfigError if not all shards can be open at once."""
        present = {path.name for path in epath.Path(self.directory).iterdir()}
        expected = [os.path.basename(path) for name in self._whole_splits for path in self._info.splits[name].filepaths]
        missing = [name for name in expected if name not in present]
        if missing:
            raise DataError(
                f"{self.directory} lacks {len(missing)} of {len(expected)} shards, such as {missing[0]}. "
                "Copy them there again, or delete the folder and prepare the dataset again."
            )
        if not self.remote:
            open_files.make_room(self, len(expected), f"reading {self.name} split {self.split!r} at random")

    def check_labels(self) -> None:
        """Raises DataError if a label is not a class: by the counts of the preparation, else by a sample."""
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
        """The splits that `split` combines, such as ["train", "test"] for "train[:90%]+test"."""
        return re.findall(r"(?:^|\+)\s*(\w+)", self.split)


def _features(record: bytes) -> Mapping[str, _Feature]:
    """Parses a record as `tf.train.Example` and returns its features; tfds's parser takes three times as long."""
    return _Example.FromString(record).features.feature


def open_builder(directory: str | os.PathLike) -> tfds.core.DatasetBuilder:
    """Returns tfds's view of the dataset in a folder.

    Raises:
        DataError: its metadata are damaged.
    """
    try:
        return tfds.builder_from_directory(directory)
    except OSError:
        raise
    except Exception as error:  # tfds's parsers raise errors of many types
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"the metadata of the dataset in {directory} ({INFO_FILE}, features.json) cannot be read: {reason}. Copy them "
            "there again, or delete the folder and prepare the dataset again."
        ) from error


def resolve_data_dir(data_dir: str | None) -> epath.Path:
    """Returns `data_dir`, or $TFDS_DATA_DIR, or ./data, as an absolute path.

    Raises:
        ConfigError: it begins with `~` and there is no home directory, or it is not UTF-8.
    """
    path = absolute(expanded(data_dir or os.environ.get("TFDS_DATA_DIR") or DEFAULT_DATA_DIR))
    if not is_utf8(path):
        raise ConfigError(
            f"{printable(path)}: array_record, which reads and writes the data, takes names in UTF-8 alone; take another folder"
        )
    return epath.Path(path)


def find_dataset(name: str, data_dir: str | None = None) -> epath.Path:
    """Returns the folder `<data_dir>/<dataset>[/<config>]/<version>`. Arguments and errors are those of `open_source`."""
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
    """Returns the names of the image feature and of the class feature."""
    features = dict(info.features)
    image, label = info.supervised_keys or ("image", "label")
    if not isinstance(features.get(image), tfds.features.Image):
        raise DataError(f"{directory} has no image {image!r}: its features are {sorted(features)}.")
    if not isinstance(features.get(label), tfds.features.ClassLabel) or not features[label].names:
        raise DataError(f"{directory} has no class {label!r} with names: its features are {sorted(features)}.")
    return image, label
