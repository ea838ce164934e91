"""Decides whether a run may continue with the configuration and the data of this start.

A key of the configuration counts unless it is listed in `HARMLESS`, so a new key of the recipe is guarded by default. Two
switches allow a run to continue nevertheless, one for the configuration and one for the data; each difference is printed. No
switch allows a state of another structure, because one cannot be read into the other.
"""

from collections.abc import Callable
from typing import Any

import jax

from configs import recipe
from pipeline.configuration.stages import changed_by_duration
from pipeline.errors import ConfigError

# These keys change what a run costs or reports, and no bit of its state.
HARMLESS = (
    "checkpoint",
    "data.data_dir",
    "data.max_bad_images",
    "data.stage",
    "data.workers",
    "evaluation",
    "launch",
    "log",
    "platform",
    "resume_changed",
    "resume_changed_data",
    "virtual_devices",
    "watchdog",
)
# These schedules do not depend on the run's duration.
SCHEDULES_WITHOUT_END = ("exponential", "constant")


def check_continues(
    saved: dict[str, Any],
    current: dict[str, Any],
    workdir: str,
    *,
    saved_state: Callable[[], Any],
    current_state: Any,
    log: Callable[[str], None],
) -> None:
    """Refuses to continue a run that would have computed something else, unless its switches allow that.

    Args:
      saved: the saved metadata: "config" as nested dictionaries, and "data", the fingerprint of the data.
      current: the metadata of this start; its configuration has the switches.
      workdir: the run's directory, for the messages.
      saved_state: returns the abstract state of the saved configuration; called only if something differs.
      current_state: the abstract state of this start.
      log: prints a line.

    Raises:
      ConfigError: the message lists each difference with both values.
    """
    changes = changed_keys(saved["config"], current["config"])
    other_data = saved["data"] != current["data"]
    if not changes and not other_data:
        return
    listed = "; ".join(changes)
    if arrays := differing_arrays(saved_state(), current_state):
        because = f" by {listed}" if changes else " by other data"
        raise ConfigError(
            f"{workdir} holds a run whose state has another structure,{because}: {_some(arrays)}. No option can "
            f"continue it. Take another --workdir; for the same network, --config.init_from={workdir} starts from its weights"
        )
    if changes and not current["config"]["resume_changed"]:
        raise ConfigError(
            f"{workdir} holds a run of another configuration. {listed}. Take another --workdir, or continue it all the same "
            "with --config.resume_changed=True"
        )
    if other_data and not current["config"]["resume_changed_data"]:
        raise ConfigError(
            f"the training data are not those that {workdir} was started on (fingerprint {saved['data']}, now "
            f"{current['data']}). Prepare the same data, or continue all the same with --config.resume_changed_data=True"
        )
    for change in changes:
        log(f"Continuing with another configuration: {change}")
    if other_data:
        log(f"Continuing on other data: fingerprint {saved['data']} became {current['data']}")


def changed_keys(saved: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """Returns a sentence for each key that decides what a run computes and whose value differs.

    A key that the saved configuration lacks was added to the recipe later, and had its default value then.
    """
    stages_move = changed_by_duration(current["progressive"])
    saved, current = flatten(recipe.get_config().to_dict()) | flatten(saved), flatten(current)
    harmless = HARMLESS
    if saved["schedule.name"] == current["schedule.name"] in SCHEDULES_WITHOUT_END and not stages_move:
        harmless += ("duration",)
    return [
        f"config.{key}: {saved.get(key)!r} became {current.get(key)!r}"
        for key in sorted(saved.keys() | current.keys())
        if saved.get(key) != current.get(key)
        and not any(key == name or key.startswith(f"{name}.") for name in harmless)
    ]


def differing_arrays(saved: Any, current: Any) -> list[str]:
    """Returns a sentence for each array that differs in shape or dtype between two abstract states, or is only in one."""
    saved, current = _arrays(saved), _arrays(current)
    return [
        f"{path} was {saved.get(path, 'not there')} and is {current.get(path, 'not there')}"
        for path in sorted(saved.keys() | current.keys())
        if saved.get(path) != current.get(path)
    ]


def _arrays(state: Any) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def _some(sentences: list[str]) -> str:
    more = f" and {len(sentences) - 3} more" if len(sentences) > 3 else ""
    return "; ".join(sentences[:3]) + more


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of nested dictionaries by keys such as "model.variant"; tuples become lists, as in JSON."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
