"""Has `etils.epath` look for files by the pattern alone, and take the name of the folder that it looks in as it is.

Left to itself it takes the whole path for the pattern: below a folder called `[b0]` it finds nothing, and below `a**b` it
raises. So orbax looks for the parts of a checkpoint when it commits one, which then holds nothing and cannot be read, and tfds
for the shards that it has written.
"""

import fnmatch
import functools
from collections.abc import Iterator

from etils.epath import gpath


@functools.cache
def take_folders_literally() -> None:
    """Does so for the whole process, on disks and buckets."""
    gpath.PosixGPath.glob = _matching


def _matching(self: gpath.PosixGPath, pattern: str) -> Iterator[gpath.PosixGPath]:
    """Yields what is below the folder and matches; `*` stays within a name. Lists each folder once."""
    if "**" in pattern:
        raise NotImplementedError(f"{pattern!r}: ** would list the whole tree; use * for each level")
    found = [self]
    for name in pattern.split("/"):
        folders = [folder for folder in found if folder.is_dir()]
        found = [path for folder in folders for path in folder.iterdir() if fnmatch.fnmatchcase(path.name, name)]
    yield from sorted(found)
