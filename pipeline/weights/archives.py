"""Opens the zip archives of PyTorch and Keras so that a small file cannot expand into a large one.

The list of entries is bounded before it is read. An entry is stored or deflated, and its stated size is compared with the file
before it is unpacked. Trained weights hardly compress, so an entry that expands a lot holds no weights.
"""

import contextlib
import pathlib
import zipfile
from collections.abc import Generator
from typing import BinaryIO

from pipeline.errors import DataError

_LARGEST_LIST_BYTES = 1 << 22  # L2 with averages has some 6,000 entries of about 100 bytes
_LARGEST_RATIO = 2
_SLACK_BYTES = 1 << 22  # small entries, such as PyTorch's list of tensors, do compress


@contextlib.contextmanager
def open_archive(path: pathlib.Path) -> Generator[zipfile.ZipFile]:
    """Opens an archive; raises `DataError` if its list of entries is too long."""
    with path.open("rb") as file:
        guarded = _Guarded(file, path)
        with zipfile.ZipFile(guarded) as archive:
            guarded.opened = True
            yield archive


def read_entry(archive: zipfile.ZipFile, name: str, largest: int, where: object) -> bytes:
    """Reads an entry.

    Raises:
      DataError: the entry uses another compression or has more than `largest` bytes.
      KeyError, zipfile.BadZipFile: the entry is missing or damaged.
    """
    entry = archive.getinfo(name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{where}: {name} is compressed by another method than zip's deflate")
    if entry.file_size > min(largest, _LARGEST_RATIO * entry.compress_size + _SLACK_BYTES):
        raise DataError(
            f"{where}: {name} would unpack from {entry.compress_size:,} to {entry.file_size:,} bytes, "
            "which no weights do"
        )
    return archive.read(entry)


class _Guarded:
    """A file that bounds the size of a zip archive's list of entries."""

    def __init__(self, file: BinaryIO, path: pathlib.Path):
        self._file, self._path = file, path
        self._bytes = path.stat().st_size
        self.opened = False
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self.opened and size > _LARGEST_LIST_BYTES:
            raise DataError(f"{self._path} lists its entries in {size:,} bytes, which no weights do")
        return self._file.read(min(size, self._bytes))  # never allocate more than the file has
