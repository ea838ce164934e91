"""Turns durations as people write them ("350 epochs", "1000 steps", "15 minutes", "25 %") into steps.

Epochs become a fractional number of steps. Nothing is rounded until a step is needed, so "every 1 epochs" never drifts from
the examples seen. `is_due` is the only rule for periodic events. It depends on the step alone, so a resumed run does the same
things at the same steps.
"""

import dataclasses
import math
import re

from pipeline.errors import ConfigError

_PATTERN = re.compile(r"\s*(?P<amount>\d+(?:\.\d*)?|\.\d+)\s*(?:(?P<unit>epoch|step|minute)s?|(?P<share>%))\s*")


@dataclasses.dataclass(frozen=True)
class Duration:
    """An amount with its unit: "epoch", "step", "minute", or "%" of the whole run."""

    amount: float
    unit: str


def parse(text: str, key: str) -> Duration:
    """Parses a duration; `key` is named in the error.

    Raises:
      ConfigError: the text is not a number followed by epochs, steps, minutes or %.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ConfigError(f"config.{key} is {text!r}: write a number and a unit, such as '5 epochs' or '1000 steps'")
    return Duration(float(match["amount"]), match["unit"] or match["share"])


def in_steps(text: str, steps_per_epoch: float, key: str) -> float:
    """Returns the duration as a (fractional) number of steps.

    >>> in_steps("2.4 epochs", steps_per_epoch=312.5, key="schedule.decay_every")
    750.0

    Raises:
      ConfigError: as `parse`, or the duration is in another unit.
    """
    duration = parse(text, key)
    if duration.unit not in ("epoch", "step"):
        raise ConfigError(f"config.{key} is {text!r}: write epochs or steps here")
    return duration.amount * (steps_per_epoch if duration.unit == "epoch" else 1.0)


def in_minutes(text: str, key: str) -> float:
    """Returns the duration in minutes.

    Raises:
      ConfigError: as `parse`, or the duration is not in minutes.
    """
    duration = parse(text, key)
    if duration.unit != "minute":
        raise ConfigError(f"config.{key} is {text!r}: write minutes here")
    return duration.amount


def is_due(step: int, every_steps: float, since: int | None = None) -> bool:
    """Returns whether a multiple of `every_steps` lies in (since, step]; always False if `every_steps` is 0.

    Args:
      step: the step just taken.
      every_steps: the interval, possibly fractional.
      since: the step that was checked last; by default the one before `step`.

    >>> [step for step in range(1, 9) if is_due(step, 2.5)]
    [3, 5, 8]
    """
    if every_steps <= 0:
        return False
    since = step - 1 if since is None else since
    return math.floor(step / every_steps) > math.floor(since / every_steps)
