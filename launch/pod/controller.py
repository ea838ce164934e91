"""The supervisor on a small machine of its own, so that the user's may be switched off.

Not there yet.
"""

from __future__ import annotations

from typing import Any

from pod.errors import Refused

CREDENTIALS = "POD_CREDENTIALS"


def start(*arguments: Any) -> int:
    """Not there yet."""
    raise Refused("--controller is not there yet")


def remove(*arguments: Any) -> None:
    """Not there yet."""
