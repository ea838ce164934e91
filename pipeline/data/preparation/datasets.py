"""One function for each kind of dataset that can be prepared; it returns the folder of the finished dataset.

An interrupted preparation continues, and a finished dataset is never touched. Each preparation ends with an index for every
JPEG (`jpeg_index`) and a check of every record (`checking`). Without the check it is not finished.
"""

import contextlib
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Generator

from etils import epath

from pipeline.data import sources
from pipeline.data.preparation import (
    checking,
    conversion,
    digits,
    fake_imagenet,
    folder_entries,
    image_folder,
    jpeg_index,
    shards,
)
from pipeline.errors import ConfigError, DataError, MachineError
from pipeline.host.announcing import announce
from pipeline.host.locking import files
from pipeline.host.paths import expanded
from pipeline.storage import literal_names


def prepare_digits(data_dir: str | None = None, *, together: bool = False) -> epath.Path:
    """Prepares the digits of scikit-learn; with `together`, other processes may do the same at the same time."""
    directory = _directory(data_dir, digits.NAME)
    return _prepare(
        directory,
        lambda: shards.write_dataset(directory, digits.digits_splits(), digits.CLASS_NAMES, digits.DESCRIPTION),
        together=together,
    )


def ensure_digits(data_dir: str | None = None) -> None:
    """Prepares the digits if they are missing. They are the quickstart's data, and all that training itself prepares.

    Several processes may do this at the same time. Each prepares its own copy, and one of the copies is kept.
    """
    directory = _directory(data_dir, digits.NAME)
    if (directory / sources.CONTENTS_FILE).exists():
        return
    if "://" in os.fspath(directory) or directory.exists():
        prepare_digits(data_dir, together=True)
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=shards.INCOMPLETE) as copy:
        try:
            os.rename(prepare_digits(copy), directory)
        except OSError:
            if not (directory / sources.CONTENTS_FILE).exists():
                raise


def prepare_fake_imagenet(train_examples: int, data_dir: str | None = None) -> epath.Path:
    """Prepares synthetic images: `train_examples` for training, and a tenth as many, at least 1,000, for validation."""
    if train_examples < fake_imagenet.NUM_CLASSES:
        raise ConfigError(
            f"--examples={train_examples}: expected {fake_imagenet.NUM_CLASSES} or more, one for each class."
        )
    directory = _directory(data_dir, fake_imagenet.NAME)
    splits = fake_imagenet.fake_imagenet_splits(train_examples, max(fake_imagenet.NUM_CLASSES, train_examples // 10))
    return _prepare(
        directory,
        lambda: shards.write_dataset(directory, splits, fake_imagenet.CLASS_NAMES, fake_imagenet.DESCRIPTION),
    )


def prepare_image_folder(root: str, name: str, data_dir: str | None = None) -> epath.Path:
    """Prepares a folder of images, `root/<split>/<class>/<image>`, as the dataset `name`."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"--name={name}: expected a letter and then letters, digits and _, all in lower case.")
    directory = _directory(data_dir, name)

    def write() -> None:
        announce(f"Looking at the files in {folder_entries.shown(root)}", "a minute for a million on a local disk")
        splits, classes = image_folder.folder_splits(pathlib.Path(expanded(root)))
        shards.write_dataset(directory, splits, classes, description=f"The images of {folder_entries.shown(root)}.")

    return _prepare(directory, write)


def prepare_tfds(name: str, data_dir: str | None = None, manual_dir: str | None = None) -> epath.Path:
    """Prepares a dataset of the tfds catalogue by its own builder, which downloads what it needs.

    Downloads and archives are kept, so an interrupted preparation does not fetch them again. Its shards start over.

    Args:
        name: as in `tfds.builder`, such as "imagenet2012" or "cifar10:3.0.2".
        data_dir: where to write it.
        manual_dir: the folder of archives that must be downloaded by hand.

    Raises:
        ConfigError: tfds has no such dataset, version or configuration, or it needs a package that is missing.
        DataError: an archive is missing or damaged.
        MachineError: a download failed.
    """
    import requests
    import tensorflow_datasets as tfds

    root = sources.resolve_data_dir(data_dir)
    try:
        builder = tfds.builder(name, data_dir=root, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise ConfigError(f"--dataset={name}: tfds has no such dataset; for own images use --image_folder.") from error
    except (AssertionError, ImportError, ValueError) as error:  # of a version, a configuration, or a name
        raise ConfigError(f"--dataset={name}: {_one_line(error)}") from error

    def write() -> None:
        downloads = tfds.download.DownloadConfig(manual_dir=manual_dir and expanded(manual_dir))
        try:
            builder.download_and_prepare(download_config=downloads)
        except (AssertionError, tfds.download.DownloadError) as error:
            raise DataError(f"{name} cannot be prepared: {_one_line(error)}") from error
        except ImportError as error:
            raise ConfigError(f"--dataset={name}: {_one_line(error)}. Install that package") from error
        except requests.RequestException as error:
            raise MachineError(
                f"{name} cannot be downloaded: {_one_line(error)}. Mend the connection, then give the same command again"
            ) from error

    return _prepare(epath.Path(builder.data_dir), write)


def prepare_conversion(source: str, data_dir: str | None = None) -> epath.Path:
    """Prepares a copy of a tfds dataset of TFRecords, given its folder `…/<dataset>[/<config>]/<version>`."""
    folder = epath.Path(expanded(source))
    if not (folder / sources.INFO_FILE).exists():
        raise ConfigError(f"--convert={source}: expected the folder of a tfds dataset, with a dataset_info.json.")
    directory = sources.resolve_data_dir(data_dir) / sources.open_builder(folder).info.full_name
    return _prepare(directory, lambda: conversion.convert_tfrecords(folder, directory))


def _directory(data_dir: str | None, name: str) -> epath.Path:
    return sources.resolve_data_dir(data_dir) / name / shards.VERSION


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _prepare(directory: epath.Path, write: Callable[[], None], *, together: bool = False) -> epath.Path:
    """Does what is left to do: writes the shards, indexes their JPEGs, checks them.

    Args:
        directory: the folder of the dataset.
        write: writes the missing shards and the metadata that make the folder a dataset.
        together: whether other processes may prepare the same dataset; the first does it, and the others wait.

    Raises:
        ConfigError: another process is preparing it.
        DataError: the folder holds a finished dataset, or it has no labelled images.
    """
    with _alone_in(directory, patient=together):
        if together and (directory / sources.CONTENTS_FILE).exists():
            return directory
        return _prepare_alone(directory, write)


def _alone_in(directory: epath.Path, *, patient: bool) -> contextlib.AbstractContextManager:
    """Locks a folder on a disk against a second preparation; the lock is beside it."""
    if "://" in os.fspath(directory):
        return contextlib.nullcontext()
    return _made_and_held(directory.parent, f".{directory.name}.lock", patient=patient)


@contextlib.contextmanager
def _made_and_held(folder: epath.Path, lock: str, *, patient: bool) -> Generator[None]:
    """Holds a lock in a folder, creating it if needed. Folders created here that are empty at the end are deleted."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with files.held(f"{folder}/{lock}", patient=patient):
            yield
    finally:
        with contextlib.suppress(OSError):  # it holds a dataset
            for path in made:
                os.rmdir(path)


def _prepare_alone(directory: epath.Path, write: Callable[[], None]) -> epath.Path:
    if (directory / sources.CONTENTS_FILE).exists():
        raise DataError(f"{directory} already holds a finished dataset. To prepare it again, delete that folder first.")
    literal_names.take_folders_literally()
    if not (directory / sources.INFO_FILE).exists():
        write()
    image_key, _ = sources.labelled_image_keys(sources.open_builder(directory).info, str(directory))
    jpeg_index.index_dataset(directory, image_key)
    checking.check_dataset(directory)
    return directory
