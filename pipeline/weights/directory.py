"""Our own format: a folder with `weights.safetensors` and `metadata.json`, the form every command reads and writes.

The tensors have our paths and layouts, so reading is a check and no translation. Nothing is written half: a folder appears
under its name when it is complete.
"""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from pipeline.errors import ConfigError, DataError
from pipeline.weights.container import Weights
from pipeline.weights.metadata import Metadata
from pipeline.weights.tensor_files import read_tensors, write_tensors

TENSORS = "weights.safetensors"
METADATA = "metadata.json"


def is_weights(path: pathlib.Path) -> bool:
    """Says whether a folder is of this format."""
    return (path / TENSORS).exists()


def read(path: pathlib.Path) -> Weights:
    """Reads a folder that `write` made.

    Raises:
      DataError: a file is missing or damaged, or tensors and metadata do not fit together.
    """
    return Weights(read_metadata(path / METADATA), read_tensors(path / TENSORS))


def read_metadata(path: pathlib.Path) -> Metadata:
    """Reads a `metadata.json`; raises `DataError` when it is missing, no JSON or incomplete."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return Metadata.from_json(content, str(path))


def write(weights: Weights, folder: pathlib.Path) -> None:
    """Writes both files into a folder that exists."""
    notes = {"variant": weights.metadata.variant, "kind": weights.metadata.kind}
    write_tensors(folder / TENSORS, weights.arrays, notes)
    write_metadata(weights.metadata, folder)


def write_metadata(metadata: Metadata, folder: pathlib.Path) -> None:
    """Writes `metadata.json`, which every exported format carries."""
    (folder / METADATA).write_text(json.dumps(metadata.to_json(), indent=1, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def appearing(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary folder that takes the name `folder` when the block ends well, and vanishes otherwise.

    Raises:
      ConfigError: `folder` is there already and not empty, or cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists already: remove it, or name another --out")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror}") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
