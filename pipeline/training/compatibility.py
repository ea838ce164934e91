"""Whether a run may go on with the configuration and the data of this start, and what is different if it may.

Every key of a configuration decides what a run computes, unless it is listed here: a key that is added to the recipe is guarded
without anybody thinking of it. Two switches let a run go on all the same, one for the configuration and one for the data, and
each difference is said. Nothing lets it go on with a state of another structure: there is no way to read one into the other.
"""

from collections.abc import Callable
from typing import Any

import jax

from pipeline.errors import ConfigError

# Where, how often, on what: these change what a run costs or tells, not a bit of its state.
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
# Only schedules that look at the end of the run depend on its duration.
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
    """Refuses to continue a run that would have computed something else; says what differs where that is wanted.

    Args:
      saved: what is saved beside the state: "config" as nested dictionaries and "data", the fingerprint of the data.
      current: the same of this start; its configuration has the switches.
      workdir: for the messages.
      saved_state: makes the abstract state that the saved configuration describes; called only if something differs.
      current_state: the abstract state of this start.
      log: tells people a line.

    Raises:
      ConfigError: it lists each difference with both values.
    """
    changes = changed_keys(saved["config"], current["config"])
    other_data = saved["data"] != current["data"]
    if not changes and not other_data:
        return
    listed = "; ".join(changes)
    if arrays := differing_arrays(saved_state(), current_state):
        because = f" by {listed}" if changes else " by other data"
        raise ConfigError(
            f"{workdir} holds a run whose state has another structure,{because}: {_some(arrays)}. It cannot be continued like "
            f"this, whatever is set. Take another --workdir; of the same network, --config.init_from={workdir} starts from its "
            "weights"
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
    """Returns a sentence for each key, of those that decide what a run computes, whose value differs."""
    saved, current = flatten(saved), flatten(current)
    harmless = HARMLESS
    if saved.get("schedule.name") == current.get("schedule.name") and current["schedule.name"] in SCHEDULES_WITHOUT_END:
        harmless += ("duration",)
    return [
        f"config.{key}: {saved.get(key)!r} became {current.get(key)!r}"
        for key in sorted(saved.keys() | current.keys())
        if saved.get(key) != current.get(key)
        and not any(key == name or key.startswith(f"{name}.") for name in harmless)
    ]


def differing_arrays(saved: Any, current: Any) -> list[str]:
    """Returns a sentence for each array of two abstract states that only one has, or that differs in shape or dtype."""
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
    """Returns the values of nested dictionaries by keys such as "model.variant", with lists for tuples as JSON has them."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
