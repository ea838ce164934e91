"""Our own format: a folder with `weights.safetensors` and `metadata.json`, which every command reads and writes.

The tensors have our paths and layouts, so reading only checks them. A folder appears under its name when it is complete. An
empty one that exists is kept, because it can be a mount or a link; the files appear in it, `metadata.json` last.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Generator

from pipeline.errors import ConfigError
from pipeline.weights.container import Weights
from pipeline.weights.metadata import Metadata
from pipeline.weights.names import OURS
from pipeline.weights.plain_files import read_json, write_json
from pipeline.weights.tensor_files import open_tensors, write_tensors

TENSORS = "weights.safetensors"
METADATA = "metadata.json"


def is_weights(path: pathlib.Path) -> bool:
    """Returns whether a folder has this format."""
    return (path / TENSORS).exists()


def read(path: pathlib.Path) -> Weights:
    """Reads a folder that `write` made.

    Raises:
      DataError: a file is missing or damaged, or tensors and metadata do not match.
    """
    metadata = read_metadata(path / METADATA)
    with open_tensors(path / TENSORS) as tensors:
        arrays = tensors.read(metadata.table, OURS)
    return Weights(metadata, arrays, str(path / TENSORS))


def read_metadata(path: pathlib.Path) -> Metadata:
    """Reads a `metadata.json`; raises `DataError` if it is missing, not JSON or incomplete."""
    return Metadata.from_json(read_json(path), str(path))


def write(weights: Weights, folder: pathlib.Path) -> None:
    """Writes both files into an existing folder."""
    header = {"variant": weights.metadata.variant, "kind": weights.metadata.kind}
    write_tensors(folder / TENSORS, weights.arrays, header)
    write_metadata(weights.metadata, folder)


def write_metadata(metadata: Metadata, folder: pathlib.Path) -> None:
    """Writes `metadata.json`, which every exported format carries."""
    write_json(folder / METADATA, metadata.to_json(), indent=1)


@contextlib.contextmanager
def appearing(folder: pathlib.Path) -> Generator[pathlib.Path]:
    """Yields a temporary folder that becomes `folder`, or the contents of an empty one, if the block succeeds.

    Raises:
      ConfigError: `folder` already exists and is not empty, or cannot be created.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder} exists already: remove it, or name another --out")
        exists = folder.is_dir()
        place = folder if exists else folder.parent
        place.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=place))
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror}") from error
    try:
        yield temporary
        if exists:
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == METADATA):
                path.rename(folder / path.name)
        else:
            temporary.chmod(0o777 & ~_umask())
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
