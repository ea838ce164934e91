"""The history of a run's slices, an object in the control plane, for `status`.

`slices.json` is a list of {"incarnation", "chips", "ready", "gone", "reason"}. Times are in seconds since 1970, and "gone" is
null while a slice exists. Only the supervisor writes it.
"""

from __future__ import annotations

from typing import Any

from pod.plane.control_plane import ControlPlane

_NAME = "slices.json"


def read(plane: ControlPlane) -> list[dict[str, Any]]:
    """Returns the slices of a run, oldest first."""
    stored = plane.read_json(_NAME)
    return list(stored.value) if stored is not None and isinstance(stored.value, list) else []


def note_ready(plane: ControlPlane, incarnation: str, chips: int, now: float) -> None:
    """Records, once, that a slice is ready."""
    slices = read(plane)
    if any(entry.get("incarnation") == incarnation for entry in slices):
        return
    slices.append({"incarnation": incarnation, "chips": chips, "ready": now, "gone": None, "reason": ""})
    plane.write_json(_NAME, slices)


def note_gone(plane: ControlPlane, now: float, reason: str) -> None:
    """Records that the slice is gone."""
    slices = read(plane)
    if all(entry.get("gone") is not None for entry in slices):
        return
    for entry in slices:
        if entry.get("gone") is None:
            entry.update(gone=now, reason=reason)
    plane.write_json(_NAME, slices)
