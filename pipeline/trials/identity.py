"""Keeps the identity of a study in its folder, so that a later start continues the same study and no other."""

import json
from typing import Any

from etils import epath

from pipeline.errors import ConfigError, DataError
from pipeline.host.whole_files import write_whole

STUDY = "study.json"


def continue_in(identity: dict[str, Any], workdir: epath.Path) -> None:
    """Writes a study's identity to its folder, or checks it against the one there.

    Args:
      identity: Everything that decides the study's results, as values that JSON can hold.
      workdir: The folder of the study.

    Raises:
      ConfigError: the folder holds another study.
      DataError: the identity cannot be read.
    """
    path = workdir / STUDY
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise DataError(f"{path} is damaged ({error}): delete it if the study is this one") from error
        if found != identity:
            differing = ", ".join(_differences(found, identity)[:5])
            raise ConfigError(f"{workdir} holds another study; it differs in {differing}. Take another --workdir")
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(identity, indent=1) + "\n")


def _differences(one: Any, other: Any, prefix: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [name for key in keys for name in _differences(one.get(key), other.get(key), f"{prefix}{key}.")]
    return [] if one == other else [f"{prefix.rstrip('.')} ({one!r:.40}, not {other!r:.40})"]
