"""Finds the image files that words name: files, folders, patterns, and `-` for names from standard input.

The order is that of the words; inside folders and patterns it is sorted. Files are found and read one after another, so a
list may exceed the memory, or still be growing.
"""

import collections
import dataclasses
import glob
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator

from etils import epath

from pipeline.data.preparation.folder_entries import head_of, shown
from pipeline.data.preparation.image_folder import is_image
from pipeline.errors import DataError

STANDARD_INPUT = "-"
_MAX_BYTES = 1 << 30  # no image is larger; a device could be endless


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """A named file, or a name without a file.

    Attributes:
      name: the name as given or found.
      problem: why it cannot be read, if that is known before opening it.
    """

    name: str
    problem: str | None = None

    def read(self) -> bytes:
        """Returns the content; raises `DataError` with only the reason."""
        if self.problem is not None:
            raise DataError(self.problem)
        try:
            with epath.Path(self.name).open("rb") if self.name.startswith("gs://") else open(self.name, "rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise DataError(error.strerror or str(error)) from error
        if len(content) > _MAX_BYTES:
            raise DataError(f"it has more than {_MAX_BYTES:,} bytes")
        return content


def image_files(words: Iterable[str]) -> Iterator[ImageFile]:
    """Yields the files that the words name, lazily."""
    for word in words:
        if word == STANDARD_INPUT:
            yield from image_files(_lines_of_input())
        elif word.startswith("gs://"):
            yield ImageFile(word)
        elif re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", word):
            yield ImageFile(word, "it is a URL, and nothing is downloaded here: fetch the file and name that")
        elif os.path.isdir(word):
            yield from _in_folder(word)
        elif not os.path.lexists(word) and glob.has_magic(word):
            found = sorted(glob.glob(word, recursive=True))
            yield from image_files(found) if found else [ImageFile(word, "nothing matches this pattern")]
        else:
            yield ImageFile(word)


def _lines_of_input() -> Iterator[str]:
    for line in sys.stdin.buffer:
        name = os.fsdecode(line.rstrip(b"\r\n"))
        if name and name != STANDARD_INPUT:
            yield name


def _in_folder(folder: str) -> Iterator[ImageFile]:
    """Yields the images below a folder; prints the number of other files to stderr."""
    images, left_out, unreadable = 0, collections.Counter(), []
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        left_out["hidden folder(s)"] += sum(name.startswith(".") for name in folders)
        left_out["link(s) to folders"] += sum(os.path.islink(os.path.join(parent, name)) for name in folders)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (os.path.join(parent, name) for name in sorted(names)):
            if _may_be_an_image(path):
                images += 1
                yield ImageFile(path)
            else:
                left_out["file(s) that are not images"] += 1
    counts = ", ".join(f"{count} {what}" for what, count in left_out.items() if count)
    if counts:
        print(f"{shown(folder)}: left out {counts}", file=sys.stderr, flush=True)
    yield from (ImageFile(error.filename, error.strerror) for error in unreadable)
    if not images and not unreadable:
        yield ImageFile(folder, "there is no image in this folder")


def _may_be_an_image(path: str) -> bool:
    """Returns whether a file begins like an image, or cannot be read, which is reported in its turn."""
    try:
        return os.path.isfile(path) and is_image(head_of(pathlib.Path(path)))
    except DataError:
        return True
