"""Prepares a dataset for training, once: `python -m pipeline.prepare --help`.

Examples:
  python -m pipeline.prepare --dataset digits
  python -m pipeline.prepare --image_folder DIR --name my_pictures     # DIR/<split>/<class>/<picture>

The result is a tfds dataset of ArrayRecord shards in --data_dir, a folder or a gs:// path; without it in
$TFDS_DATA_DIR, else in ./data. A preparation that was interrupted goes on when the same command is given again.
Training never prepares anything.
"""

import pathlib
import re
import sys

from absl import app, flags
from etils import epath

from pipeline.data import digits, image_folder, shards, sources
from pipeline.errors import ConfigError, DataError

_DATASET = flags.DEFINE_string("dataset", None, "what to prepare: digits")
_IMAGE_FOLDER = flags.DEFINE_string("image_folder", None, "a folder of pictures, DIR/<split>/<class>/<picture>")
_NAME = flags.DEFINE_string("name", None, "with --image_folder: how the dataset is to be called")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where to write it; unset: $TFDS_DATA_DIR, then ./data")


def prepare_digits(data_dir: str | None = None) -> epath.Path:
    """Writes the digits of scikit-learn and returns the folder of the dataset."""
    directory = _directory(data_dir, digits.NAME)
    shards.write_dataset(directory, digits.digits_splits(), digits.CLASS_NAMES, digits.DESCRIPTION)
    return directory


def ensure_digits(data_dir: str | None = None) -> None:
    """Prepares the digits if they are not there: the quickstart's data, and the only ones that training prepares."""
    if not (_directory(data_dir, digits.NAME) / "dataset_info.json").exists():
        prepare_digits(data_dir)


def prepare_image_folder(root: str, name: str, data_dir: str | None = None) -> epath.Path:
    """Writes a folder of pictures as the dataset `name` and returns the folder of the dataset."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"--name {name!r}: expected a letter and then letters, digits and _, all in lower case.")
    directory = _directory(data_dir, name)
    splits, classes = image_folder.folder_splits(pathlib.Path(root).expanduser())
    shards.write_dataset(directory, splits, classes, description=f"The pictures of {root}.")
    return directory


def _directory(data_dir: str | None, name: str) -> epath.Path:
    return sources.resolve_data_dir(data_dir) / name / shards.VERSION


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    try:
        directory = _prepare()
    except (ConfigError, DataError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"Prepared {directory}")


def _prepare() -> epath.Path:
    if _IMAGE_FOLDER.value and _NAME.value:
        return prepare_image_folder(_IMAGE_FOLDER.value, _NAME.value, _DATA_DIR.value)
    if _DATASET.value == digits.NAME:
        return prepare_digits(_DATA_DIR.value)
    raise ConfigError("Say what to prepare: --dataset digits, or --image_folder DIR --name NAME.")


if __name__ == "__main__":
    app.run(main)
