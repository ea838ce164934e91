"""Paths as people write them."""

import os

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
