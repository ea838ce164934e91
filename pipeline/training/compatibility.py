"""Which keys of a configuration decide what a run computes, and may therefore not change while it goes on.

Every key does, unless it is listed here: a key that is added to the recipe is guarded without anybody thinking of it.
"""

from typing import Any

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
    "virtual_devices",
    "watchdog",
)
# Only schedules that look at the end of the run depend on its duration.
SCHEDULES_WITHOUT_END = ("exponential", "constant")


def check_unchanged(saved: dict[str, Any], current: dict[str, Any], workdir: str) -> None:
    """Refuses to continue a run with a configuration that would have computed something else.

    Args:
      saved: the configuration beside the checkpoint, as nested dictionaries.
      current: the configuration of this start, likewise.
      workdir: for the message.

    Raises:
      ConfigError: it lists each differing key with both values.
    """
    saved, current = _flatten(saved), _flatten(current)
    harmless = HARMLESS
    if saved.get("schedule.name") == current.get("schedule.name") and current["schedule.name"] in SCHEDULES_WITHOUT_END:
        harmless += ("duration",)
    differences = [
        f"config.{key}: {saved.get(key)!r} became {current.get(key)!r}"
        for key in sorted(saved.keys() | current.keys())
        if saved.get(key) != current.get(key)
        and not any(key == name or key.startswith(f"{name}.") for name in harmless)
    ]
    if differences:
        raise ConfigError(
            f"{workdir} holds a run of another configuration. " + "; ".join(differences) + ". Take another --workdir, "
            "or continue it all the same with --config.resume_changed=True"
        )


def check_same_data(saved: str, current: str, workdir: str) -> None:
    """Refuses to continue a run on data that have changed since: fingerprints as `pipeline.data.sources` makes them.

    Raises:
      ConfigError: the fingerprints differ.
    """
    if saved != current:
        raise ConfigError(
            f"the training data are not those that {workdir} was started on (fingerprint {saved}, now {current}). Prepare the "
            "same data, or continue all the same with --config.resume_changed=True"
        )


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
