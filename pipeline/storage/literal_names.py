"""Makes `etils.epath` match files by the pattern alone and take the folder's name literally.

By default it matches the whole path as a pattern. Below a folder called `[b0]` it finds nothing, and below `a**b` it raises.
orbax looks for the parts of a checkpoint in this way when it commits one, so the checkpoint would be empty. tfds looks in this
way for the shards that it has written.
"""

import fnmatch
import functools
from collections.abc import Iterator

from etils.epath import gpath


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
