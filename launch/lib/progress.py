"""What a run has reached, from its `metrics.jsonl`, its log and the launcher's record.

python launch/lib/progress.py METRICS LOG BATCH_SIZE CHIPS SLICE_START [SLICES]

METRICS and LOG are files (the log may be just its end). SLICES holds lines "start end chips" of the slices that are gone,
SLICE_START is when the present one was ready, in seconds, or 0. Pure reading: never calls a service. Only the standard
library, so that it runs anywhere.
"""

import json
import re
import sys
import time
from pathlib import Path


def read_events(text: str) -> list[dict]:
    """Returns the events of `metrics.jsonl`; a line that is half written is left out."""
    events = []
    for line in text.splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events


def productive_seconds(events: list[dict], batch_size: int) -> float:
    """Returns the seconds spent on steps that count, each step once however often it was repeated.

    Each "train" event covers the steps since the one before, at its `images_per_second`.
    """
    seconds, last_step = 0.0, 0
    for event in events:
        if event["event"] == "train":
            seconds += (event["step"] - last_step) * batch_size / event["images_per_second"]
            last_step = event["step"]
    return seconds


def slice_seconds(slices: str, start: float, now: float) -> tuple[float, float]:
    """Returns (seconds, chip-seconds) for which slices were there; the present one counts from `start` if that is not 0.

    The present slice's chips are added by the caller.
    """
    seconds = chip_seconds = 0.0
    for line in slices.splitlines():
        began, ended, chips = (float(word) for word in line.split())
        seconds += ended - began
        chip_seconds += (ended - began) * chips
    return seconds + (now - start if start else 0.0), chip_seconds


def describe(
    events: list[dict], log: str, batch_size: int, chips: int, start: float, slices: str, now: float
) -> list[str]:
    """Returns the lines of `tpu_pod.sh status` about the run itself."""
    lines = []
    steps = [event["step"] for event in events]
    totals = re.findall(r"step +[\d,]+/([\d,]+)", log)
    lines.append(
        f"step        {max(steps, default=0):,}" + (f" of {int(totals[-1].replace(',', '')):,}" if totals else "")
    )
    scores = [event.get("ema_top1", event.get("raw_top1")) for event in events if event["event"] == "evaluation"]
    if scores:
        lines.append(f"top-1       {scores[-1]:.2%} at the last evaluation, {max(scores):.2%} at best")
    left = re.findall(r"left (\d+:\d\d:\d\d)", log)
    if left:
        lines.append(f"time left   {left[-1]}")
    seconds, chip_seconds = slice_seconds(slices, start, now)
    chip_seconds += chips * (now - start) if start else 0.0
    lines.append(f"chip-hours  {chip_seconds / 3600:,.1f}")
    if seconds:
        lines.append(f"goodput     {min(productive_seconds(events, batch_size) / seconds, 1):.0%} of the slice's time")
    return lines


def main(metrics: str, log: str, batch_size: str, chips: str, start: str, slices: str = "") -> None:
    """Prints the lines."""
    text = Path(slices).read_text() if slices and Path(slices).exists() else ""
    events = read_events(Path(metrics).read_text())
    end_of_log = Path(log).read_text(errors="replace")
    print(*describe(events, end_of_log, int(batch_size), int(chips), float(start), text, time.time()), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
