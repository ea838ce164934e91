"""Zip archives as PyTorch and Keras write them, opened so that a small file cannot become large.

The list of entries is bounded before it is read, an entry is stored or deflated, and what it says of its size is compared with
the file before it is unpacked. Trained numbers hardly compress, so an entry that claims to is no entry of weights.
"""

import contextlib
import pathlib
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.errors import DataError

_LARGEST_LIST_BYTES = 1 << 22  # L2 with averages has some 6,000 entries of about 100 bytes
_LARGEST_RATIO = 2
_SLACK_BYTES = 1 << 22  # small entries, such as PyTorch's list of tensors, do compress


@contextlib.contextmanager
def open_archive(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    """Opens an archive; raises `DataError` for one whose list of entries is too long."""
    with path.open("rb") as file:
        guarded = _Guarded(file, path)
        with zipfile.ZipFile(guarded) as archive:
            guarded.opened = True
            yield archive


def read_entry(archive: zipfile.ZipFile, name: str, largest: int, where: object) -> bytes:
    """Reads an entry.

    Raises:
      DataError: it is compressed in a way that weights are not, or has more than `largest` bytes.
      KeyError, zipfile.BadZipFile: it is missing or damaged.
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
    """A file of which a zip archive's list of entries may take only so much."""

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
        return self._file.read(min(size, self._bytes))  # no buffer is made for what is not there
