"""Makes `etils.epath` match files by the pattern alone and take the folder's name literally.

By default it matches the whole path as a pattern. Below a folder called `[b0]` it finds nothing, and below `a**b` it raises.
orbax looks for the parts of a checkpoint in this way when it commits one, so the checkpoint would be empty. tfds looks in this
way for the shards that it has written. TensorFlow looks for the files of a checkpoint and of a SavedModel in this way.
"""

import contextlib
import fnmatch
import functools
import pathlib
import tempfile
from collections.abc import Generator, Iterator, Sequence

from etils.epath import gpath

_PLAIN = str.maketrans("[]\\", "___")


@functools.cache
def take_folders_literally() -> None:
    """Replaces `glob` for the whole process, on disks and buckets."""
    gpath.PosixGPath.glob = _matching


def _matching(self: gpath.PosixGPath, pattern: str) -> Iterator[gpath.PosixGPath]:
    """Yields the paths below the folder that match. `*` matches within a name. Each folder is listed once."""
    if "**" in pattern:
        raise NotImplementedError(f"{pattern!r}: ** would list the whole tree; use * for each level")
    found = [self]
    for name in pattern.split("/"):
        folders = [folder for folder in found if folder.is_dir()]
        found = [path for folder in folders for path in folder.iterdir() if fnmatch.fnmatchcase(path.name, name)]
    yield from sorted(found)


@contextlib.contextmanager
def linked(paths: Sequence[pathlib.Path]) -> Generator[list[pathlib.Path]]:
    """Yields paths that TensorFlow takes literally: the same ones, or links to them if they have brackets or backslashes."""
    if not any(str(path) != str(path).translate(_PLAIN) for path in paths):
        yield list(paths)
        return
    with tempfile.TemporaryDirectory(prefix="links.") as folder:
        links = [pathlib.Path(folder, path.name.translate(_PLAIN)) for path in paths]
        for path, link in zip(paths, links):
            link.symlink_to(path.absolute())
        yield links
