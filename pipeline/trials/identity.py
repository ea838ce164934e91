"""Keeps the identity of a study in its folder, so that a later start continues the same study and no other."""

import json
import types
from collections.abc import Mapping
from typing import Any

from etils import epath

from pipeline.errors import ConfigError, DataError
from pipeline.host.whole_files import write_whole

STUDY = "study.json"


def continue_in(identity: dict[str, Any], workdir: epath.Path, structures: Mapping[str, types.ModuleType]) -> None:
    """Writes a study's identity to its folder, or checks it against the one there.

    A key that the identity there lacks was added to the configurations later, and had its default value then.

    Args:
      identity: Everything that decides the study's results, as values that JSON can hold.
      workdir: The folder of the study.
      structures: The modules in `configs/` with every key of the configurations in it, by their names there.

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
        defaults = {name: json.loads(each.get_config().to_json_best_effort()) for name, each in structures.items()}
        found = _completed(found, defaults)
        if found != identity:
            differing = ", ".join(_differences(found, identity)[:5])
            raise ConfigError(f"{workdir} holds another study; it differs in {differing}. Take another --workdir")
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(identity, indent=1) + "\n")


def _completed(found: Any, defaults: Any) -> Any:
    """Returns nested dictionaries with the keys that they lack."""
    if not (isinstance(found, dict) and isinstance(defaults, dict)):
        return found
    return defaults | {key: _completed(value, defaults.get(key)) for key, value in found.items()}


def _differences(one: Any, other: Any, prefix: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [name for key in keys for name in _differences(one.get(key), other.get(key), f"{prefix}{key}.")]
    return [] if one == other else [f"{prefix.rstrip('.')} ({one!r:.40}, not {other!r:.40})"]
