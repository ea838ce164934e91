"""Paths as people write them, and commands as they can give them."""

import os
import shlex
import sys

from pipeline.errors import ConfigError


def expanded(path: str | os.PathLike) -> str:
    """Returns the path with a `~` at its beginning replaced by the home directory.

    Raises:
      ConfigError: there is none; taken literally, it would become a folder named `~`.
    """
    path = os.fspath(path)
    result = os.path.expanduser(path)
    if result.startswith("~"):
        raise ConfigError(f"{path}: no home directory is known for that; write the path out, or set HOME")
    return result


def command_line(*words: str | os.PathLike) -> str:
    """Returns the words after `python` as a command that a shell in the current directory runs with this very Python.

    `python` may be another, or none.
    """
    here = os.path.relpath(sys.executable)
    python = sys.executable if here.startswith(os.pardir) else here
    return shlex.join([python, *map(os.fspath, words)])
