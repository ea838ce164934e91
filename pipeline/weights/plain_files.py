"""Reads and writes the small files beside weights, JSON and text.

Only regular files are opened, because a FIFO could block forever and a device need not end. Reads are bounded. JSON follows the
standard: UTF-8, without NaN and infinities.
"""

import json
import pathlib
import stat
from typing import Any

from pipeline.errors import DataError

_MAX_BYTES = 1 << 24  # a name of 100 bytes for each of 100,000 classes


def check_regular(path: pathlib.Path) -> None:
    """Raises `DataError` unless `path` is a regular file, or a link to one."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise DataError(f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file of weights")


def read_text(path: pathlib.Path, pipe: bool = False) -> str:
    """Reads a text file.

    Args:
      path: The path of the file.
      pipe: Whether it may be a pipe, as a shell's `<(command)` is.

    Raises:
      DataError: the file is not regular, too large, or not UTF-8.
    """
    if not (pipe and path.is_fifo()):
        check_regular(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise DataError(f"{path} has more than {_MAX_BYTES:,} bytes, too much for such a file")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_json(path: pathlib.Path) -> Any:
    """Reads JSON; raises `DataError` that names the file if it is missing or not JSON."""
    try:
        return json.loads(read_text(path), parse_constant=_refuse)
    except RecursionError as error:
        raise DataError(f"{path} cannot be read: its JSON is nested too deeply") from error
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def write_json(path: pathlib.Path, content: Any, indent: int) -> None:
    """Writes JSON that `read_json` reads; raises `ValueError` for numbers that JSON does not have."""
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
