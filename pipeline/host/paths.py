"""Expands paths from users, and formats commands for them."""

import os
import re
import shlex
import sys

from pipeline.errors import ConfigError


def expanded(path: str | os.PathLike) -> str:
    """Returns the path with a leading `~` replaced by the home directory.

    Raises:
      ConfigError: there is no home directory, and a literal `~` would become a folder of that name; or it is a URL of another
        kind than `gs://…`.
    """
    path = known_place(os.fspath(path))
    result = os.path.expanduser(path)
    if result.startswith("~"):
        raise ConfigError(f"{path}: there is no home directory; write the path out, or set HOME")
    return result


def known_place(path: str) -> str:
    """Returns the path; raises `ConfigError` for a URL of another kind than `gs://…`."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path) and not path.startswith("gs://"):
        raise ConfigError(f"{path}: give a local path, or one of Google Cloud Storage, gs://BUCKET/FOLDER")
    return path


def absolute(path: str | os.PathLike) -> str:
    """Returns the path from the root of the file system; a URL stays as it is."""
    text: str = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


def command_line(*words: str | os.PathLike[str]) -> str:
    """Returns a shell command, for the current directory, that runs this Python with these arguments.

    The `python` of the shell may be another one, or missing.
    """
    here = os.path.relpath(sys.executable)
    python = sys.executable if here.startswith(os.pardir) else here
    return shlex.join([python, *(os.fspath(word) for word in words)])
