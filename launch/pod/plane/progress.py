"""Computes a run's progress from its `metrics.jsonl`, its log and the history of its slices, with pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any


def read_events(text: str) -> list[dict[str, Any]]:
    """Returns the events of `metrics.jsonl`; a damaged line is skipped, as one that a power failure cut."""
    events = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events


def productive_seconds(events: Sequence[Mapping[str, Any]], batch_size: int) -> float:
    """Returns the seconds spent on steps; a step counts once, however often it was repeated.

    Each "train" event covers the steps since the one before, at its `images_per_second`.
    """
    seconds, last_step = 0.0, 0
    for event in events:
        if event["event"] == "train":
            seconds += (event["step"] - last_step) * batch_size / event["images_per_second"]
            last_step = event["step"]
    return seconds


def slice_seconds(slices: Sequence[Mapping[str, Any]], now: float) -> tuple[float, float]:
    """Returns the (seconds, chip-seconds) of all slices; an existing one counts until now."""
    seconds = chip_seconds = 0.0
    for entry in slices:
        ended = now if entry.get("gone") is None else float(entry["gone"])
        seconds += ended - float(entry["ready"])
        chip_seconds += (ended - float(entry["ready"])) * float(entry["chips"])
    return seconds, chip_seconds


def describe(
    events: Sequence[Mapping[str, Any]], log: str, batch_size: int, slices: Sequence[Mapping[str, Any]], now: float
) -> list[str]:
    """Returns the lines of `tpu_pod.sh status` about the run.

    Args:
      events: the events of `metrics.jsonl`.
      log: the end of worker 0's log.
      batch_size: images in a step.
      slices: the result of `history.read`.
      now: seconds since 1970.
    """
    lines = []
    steps = [event["step"] for event in events if "step" in event]
    totals = re.findall(r"step +[\d,]+/([\d,]+)", log)
    lines.append(
        f"step        {max(steps, default=0):,}" + (f" of {int(totals[-1].replace(',', '')):,}" if totals else "")
    )
    scores = [event.get("ema_top1", event.get("raw_top1")) for event in events if event["event"] == "evaluation"]
    scores = [score for score in scores if score is not None]
    if scores:
        lines.append(f"top-1       {scores[-1]:.2%} at the last evaluation, {max(scores):.2%} at best")
    left = re.findall(r"left (\d+:\d\d:\d\d)", log)
    if left:
        lines.append(f"time left   {left[-1]}")
    seconds, chip_seconds = slice_seconds(slices, now)
    lines.append(f"chip-hours  {chip_seconds / 3600:,.1f}")
    if seconds:
        lines.append(f"goodput     {min(productive_seconds(events, batch_size) / seconds, 1):.0%} of the slice's time")
    return lines
