"""Reads launch/pod.env: lines NAME=value, each checked by the reader of its kind.

Values are taken literally; nothing is expanded and no shell reads the file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pod.errors import Refused
from pod.options import Limits

_NUMBER = r"[0-9]{1,9}(\.[0-9]+)?|\.[0-9]+"
_LONGEST_HOURS = 87_600


def text(where: str, value: str) -> str:
    """Returns the value as it is."""
    return value


def word(where: str, value: str) -> str:
    """Returns the value, in which no name of the services has a space or a quotation mark."""
    if re.search(r"[\s\"'`]", value):
        raise Refused(
            f"{where}={value!r}: expected a name without spaces and quotation marks; values stand as they are"
        )
    return value


def whole(where: str, value: str) -> int:
    """Reads a whole number."""
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise Refused(f"{where}={value[:40]}: expected a whole number of at most nine digits")
    return int(value)


def number(where: str, value: str) -> float:
    """Reads a number of seconds."""
    if not re.fullmatch(_NUMBER, value):
        raise Refused(f"{where}={value[:40]}: expected seconds")
    return float(value)


def interval(where: str, value: str) -> float:
    """Reads the seconds between two actions, above 0."""
    if number(where, value) <= 0:
        raise Refused(f"{where}={value}: expected seconds above 0")
    return float(value)


def hours(where: str, value: str) -> float:
    """Reads a number of hours above 0."""
    if not re.fullmatch(_NUMBER, value) or not 0 < float(value) <= _LONGEST_HOURS:
        raise Refused(f"{where}={value[:40]}: expected hours, at most {_LONGEST_HOURS} (ten years)")
    return float(value)


def yes_or_no(where: str, value: str) -> bool:
    """Reads "yes" or "no"."""
    if value not in ("yes", "no"):
        raise Refused(f"{where}={value}: expected yes or no")
    return value == "yes"


_NAMES = {"DEADLINE_HOURS": "deadline_hours"}
_INTERVALS = ("poll_seconds", "lock_seconds")
_SETTINGS: dict[str, Callable[[str, str], Any]] = {
    **{name: word for name in ("PROJECT", "ZONE", "BUCKET", "NETWORK", "SUBNETWORK", "SERVICE_ACCOUNT", "RESERVATION")},
    **{name: yes_or_no for name in ("INTERNAL_IPS", "PLAN", "CHECK_SERVICE_ACCOUNT")},
    "DEADLINE_HOURS": hours,
    **{bound.name.upper(): whole if bound.type == "int" else number for bound in dataclasses.fields(Limits)},
    **{name.upper(): interval for name in _INTERVALS},
}


def read_settings(path: Path) -> dict[str, Any]:
    """Parses a settings file: lines NAME=value, taken literally; blank lines and # comments are skipped.

    Raises:
      Refused: a line is not a setting, or a value has the wrong type.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # some editors begin a file with a mark
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read {path}: {error}") from None
    found: dict[str, Any] = {}
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or key not in _SETTINGS:
            raise Refused(f"{path}: unknown setting: {line}; known are {' '.join(_SETTINGS)}")
        if value:
            found[_NAMES.get(key, key.lower())] = _SETTINGS[key](f"{path}: {key}", value)
    return found
