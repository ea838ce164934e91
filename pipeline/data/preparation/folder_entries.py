"""Lists a folder of images by kind (files, folders, broken links, the rest) without opening anything that could block.

Names on disk are bytes. Here they are text with surrogate escapes, which gives the same bytes; `shown` makes them printable.
"""

import collections
import dataclasses
import enum
import errno
import os
import pathlib
import stat

from pipeline.errors import DataError

_NOWHERE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)  # errors of a link that leads nowhere
_HEAD_BYTES = 12


class Kind(enum.Enum):
    """The kind of an entry, after following links; the values are used in messages."""

    FILE = "file(s)"
    FOLDER = "folder(s)"
    BROKEN_LINK = "link(s) that lead nowhere"
    OTHER = "pipe(s), socket(s) or device(s)"


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of a folder.

    Attributes:
        path: its path.
        kind: its kind.
        size: of a file, in bytes.
    """

    path: pathlib.Path
    kind: Kind
    size: int

    @property
    def hidden(self) -> bool:
        """Whether its name begins with a dot."""
        return self.path.name.startswith(".")


def entries(folder: pathlib.Path) -> list[Entry]:
    """Returns the entries of a folder, sorted; raises `DataError` if it cannot be read."""
    try:
        return [_entry(path) for path in sorted(folder.iterdir())]
    except OSError as error:
        raise _unreadable(error.filename or folder, error) from error


def head_of(path: pathlib.Path) -> bytes:
    """Returns the first bytes of a file; raises `DataError` if they cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error


def shown(name: str | os.PathLike) -> str:
    """Returns a name as text: bytes that are not UTF-8 become `\\xe9` and the like."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class LeftOut:
    """The paths that do not become part of the dataset, by reason."""

    def __init__(self, root: pathlib.Path):
        self._root = root
        self._paths = collections.defaultdict(list)

    def add(self, reason: str, path: pathlib.Path) -> None:
        """Adds a path."""
        self._paths[reason].append(path)

    def log(self) -> None:
        """Prints one line for each reason."""
        for reason, paths in self._paths.items():
            inside = sum(_files_below(path) for path in paths)
            with_files = f", with {inside} file(s)" if inside else ""
            example = shown(paths[0].relative_to(self._root))
            print(f"{shown(self._root)}: left out {len(paths)} {reason}{with_files}, such as {example}")


def _entry(path: pathlib.Path) -> Entry:
    try:
        found = path.stat()
    except OSError as error:
        if error.errno not in _NOWHERE:
            raise
        return Entry(path, Kind.BROKEN_LINK, 0)
    if stat.S_ISDIR(found.st_mode):
        return Entry(path, Kind.FOLDER, 0)
    return Entry(path, Kind.FILE if stat.S_ISREG(found.st_mode) else Kind.OTHER, found.st_size)


def _files_below(path: pathlib.Path) -> int:
    """Returns the number of files in a folder; 0 for files, and for links, which could be circular."""
    return 0 if path.is_symlink() else sum(len(files) for _, _, files in os.walk(path))


def _unreadable(path: str | os.PathLike, error: OSError) -> DataError:
    return DataError(f"{shown(path)} cannot be read: {error.strerror}.")
