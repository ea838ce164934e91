"""Makes code for local files work on gs://, with a copy to read, or a folder to write that is uploaded afterwards."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Generator

from pipeline.errors import ConfigError
from pipeline.storage import failures, objects

_PIECE_BYTES = 32 * 1024**2


def is_remote(path: str | os.PathLike) -> bool:
    """Returns whether a path is in a bucket."""
    return os.fspath(path).startswith("gs://")


@contextlib.contextmanager
def local_copy(path: str | os.PathLike) -> Generator[pathlib.Path]:
    """Yields a local path of a file or folder; a copy from a bucket is deleted afterwards.

    Raises:
      FileNotFoundError: the bucket has nothing at `path`.
    """
    location = os.fspath(path).rstrip("/")
    if not is_remote(location):
        yield pathlib.Path(location)
        return
    with tempfile.TemporaryDirectory(prefix="gs.") as folder:
        copy = pathlib.Path(folder, location.rpartition("/")[2])
        entry = objects.stat(location)
        found = [entry] if entry else objects.entries(location, recursive=True)[0]
        if not found:
            raise failures.not_found(location)
        for entry in found:
            target = pathlib.Path(f"{copy}{entry.location.removeprefix(location)}")
            if entry.location.endswith("/"):
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                _fetch(entry, target)
        yield copy


@contextlib.contextmanager
def written_to(path: str | os.PathLike) -> Generator[pathlib.Path]:
    """Yields a folder to write. For a bucket it is uploaded at the end of the block, unless the block raises.

    Raises:
      ConfigError: the bucket already has something at `path`.
    """
    location = os.fspath(path).rstrip("/")
    if not is_remote(location):
        yield pathlib.Path(location)
        return
    if objects.entries(location, recursive=True, limit=1)[0]:
        raise ConfigError(f"{location} is not empty; name another folder, or empty it")
    with tempfile.TemporaryDirectory(prefix="gs.") as folder:
        local = pathlib.Path(folder, location.rpartition("/")[2])
        yield local
        for file in sorted(file for file in local.rglob("*") if file.is_file()):
            with file.open("rb") as content:
                objects.write(f"{location}/{file.relative_to(local).as_posix()}", content)


def _fetch(entry: objects.Entry, target: pathlib.Path) -> None:
    with target.open("wb") as file:
        for start in range(0, entry.size, _PIECE_BYTES):
            end = min(start + _PIECE_BYTES, entry.size)
            file.write(objects.read(entry.location, start, end, generation=entry.generation))
