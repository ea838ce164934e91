"""Expands paths from users, and formats commands for them."""

import os
import shlex
import sys

from pipeline.errors import ConfigError


def expanded(path: str | os.PathLike) -> str:
    """Returns the path with a leading `~` replaced by the home directory.

    Raises:
      ConfigError: there is no home directory; a literal `~` would become a folder of that name.
    """
    path = os.fspath(path)
    result = os.path.expanduser(path)
    if result.startswith("~"):
        raise ConfigError(f"{path}: there is no home directory; write the path out, or set HOME")
    return result


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
