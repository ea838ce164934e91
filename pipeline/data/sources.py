"""Opens a prepared tfds dataset for random access: record number -> undecoded picture and label.

Owns where datasets are looked for and what is read of them. Never downloads, prepares or changes anything, and needs
neither TensorFlow nor JAX: it runs in the worker processes too. A source is a pure function of (folder, split): equal
records and an equal fingerprint on every host.
"""

import hashlib
import json
import os
import re

import tensorflow_datasets as tfds
from etils import epath

from pipeline.errors import DataError

DEFAULT_DATA_DIR = "data"


class Source:
    """The records of one split. Pickles as its folder and split, so that a worker process opens its own files.

    Attributes:
        name: "dataset:version" or "dataset/config:version".
        split: what was asked for, in the tfds split language.
        num_classes: int.
        class_names: tuple of text, one for each class.
        fingerprint: 16 hexadecimal digits; differs when the data differ.
        remote: whether reading goes over the network.
    """

    def __init__(self, directory: str, split: str):
        """Opens `split` of the dataset in `directory` (`<data_dir>/<dataset>[/<config>]/<version>`).

        Raises:
            ValueError: the dataset is not for random access, has no labelled pictures, or the split does not exist.
        """
        self.directory = directory
        self.split = split
        self.remote = "://" in directory
        builder = tfds.builder_from_directory(directory)
        info = builder.info
        self.name = f"{info.full_name.rpartition('/')[0]}:{info.version}"
        if info.file_format.value != "array_record":
            raise DataError(
                f"{directory} is stored as {info.file_format.value}, which cannot be read in random order. "
                f"Convert it once: python -m pipeline.prepare --convert {directory}"
            )
        self._image_key, self._label_key = _labelled_picture_keys(info, directory)
        self.class_names = tuple(info.features[self._label_key].names)
        self.num_classes = len(self.class_names)
        try:
            self._records = builder.as_data_source(split, decoders={self._image_key: tfds.decode.SkipDecoding()})
        except (ValueError, KeyError) as error:
            splits = ", ".join(f"{name} ({split.num_examples:,})" for name, split in info.splits.items())
            raise DataError(f"{self.name} has no split {split!r}, or it is empty. It has: {splits}.") from error
        self.fingerprint = self._fingerprint(info)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, record: int) -> dict:
        """Returns `{"image": bytes, "label": int}`.

        Raises:
            ValueError: the label is not a class (such as -1, which means unknown).
        """
        example = self._records[record]
        label = int(example[self._label_key])
        if not 0 <= label < self.num_classes:
            raise DataError(
                f"Record {record} of {self.name} split {self.split!r} has label {label}; "
                f"expected 0 to {self.num_classes - 1}."
            )
        return {"image": example[self._image_key], "label": label}

    def describe(self, record: int) -> str:
        """Returns the name of the picture's file if the dataset knows it, else that of the shard, for messages."""
        try:
            name = self._records[record].get("file_name")
        except Exception as error:  # a description must not hide the error that it is for
            return f"unreadable: {error}"
        return name.decode() if name else "without file name"

    def __repr__(self) -> str:
        return f"Source({self.name}, split={self.split!r}, fingerprint={self.fingerprint})"

    def __reduce__(self):
        return Source, (self.directory, self.split)

    def _fingerprint(self, info) -> str:
        content = {
            "name": self.name,
            "split": self.split,
            "records": len(self),
            "classes": self.class_names,
            "shards": {name: (split.shard_lengths, int(split.num_bytes)) for name, split in info.splits.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def open_source(name: str, split: str, data_dir: str | None = None) -> Source:
    """Opens a split of a prepared dataset.

    Args:
        name: "dataset", "dataset:version" or "dataset/config:version"; without a version the highest one there is.
        split: in the tfds split language, such as "train", "train[:-10000]" or "train[20shard:]".
        data_dir: the folder or gs:// path that holds it; without it $TFDS_DATA_DIR, then ./data.

    Raises:
        DataError: it is not there; the message has the command that prepares it.
    """
    return Source(os.fspath(find_dataset(name, data_dir)), split)


def resolve_data_dir(data_dir: str | None) -> epath.Path:
    """Returns `data_dir`, or $TFDS_DATA_DIR, or ./data, as an absolute path."""
    path = epath.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or DEFAULT_DATA_DIR).expanduser()
    return path if "://" in os.fspath(path) else epath.Path(os.path.abspath(path))


def find_dataset(name: str, data_dir: str | None = None) -> epath.Path:
    """Returns the folder `<data_dir>/<dataset>[/<config>]/<version>`; arguments and errors as `open_source`."""
    match = re.fullmatch(r"(\w+)(?:/([\w.+-]+))?(?::(\d+\.\d+\.\d+))?", name)
    if match is None:
        raise DataError(f"{name!r} names no dataset. Expected dataset, dataset:version or dataset/config:version.")
    dataset, config, version = match.groups()
    root = resolve_data_dir(data_dir)
    parent = root / dataset / config if config else root / dataset
    versions = sorted(_prepared_versions(parent), key=lambda found: tuple(map(int, found.split("."))))
    if version is None and versions:
        version = versions[-1]
    if version not in versions:
        found = f" (found: {', '.join(versions)})" if versions else ""
        raise DataError(
            f"No prepared dataset {name!r} in {root}{found}. "
            f"Prepare it once: python -m pipeline.prepare {_prepare_arguments(name)} --data_dir {root}"
        )
    return parent / version


def _prepared_versions(parent: epath.Path) -> list[str]:
    if not parent.exists():
        return []
    names = [path.name for path in parent.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return [name for name in names if (parent / name / "dataset_info.json").exists()]


def _prepare_arguments(name: str) -> str:
    if name.startswith("imagenet2012"):
        return f"--dataset {name} --manual_dir FOLDER_OF_THE_ARCHIVES"
    if name.split(":")[0] in tfds.list_builders() or name.split(":")[0] in ("digits", "fake_imagenet"):
        return f"--dataset {name}"
    return f"--image_folder FOLDER --name {name.split(':')[0]}"


def _labelled_picture_keys(info, directory: str) -> tuple[str, str]:
    """Returns the names of the picture and of its class among the features."""
    keys = info.supervised_keys if info.supervised_keys else ("image", "label")
    image, label = (dict(info.features).get(key) for key in keys[:2])
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise DataError(f"{directory} has no picture with one class: its features are {sorted(info.features)}.")
    if not label.names:
        raise DataError(f"{directory} has no class names: label.labels.txt is missing.")
    return keys[0], keys[1]
