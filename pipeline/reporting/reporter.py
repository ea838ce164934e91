"""Reports of a run: lines and a progress bar on the console, TensorBoard, and `metrics.jsonl`.

Only process 0 writes. `metrics.jsonl` has one JSON object a line with "event" and "step". Each step appears once, even after
restarts: resuming at step s drops later entries. Files are written in the background.
"""

import functools
import json
import sys
import time
from typing import Any

import jax
from absl import logging
from etils import epath
from tqdm import tqdm

from pipeline.configuration.hyperparameters import Hyperparameters
from pipeline.host.whole_files import write_whole
from pipeline.reporting.goodput import Goodput
from pipeline.reporting.growing_files import GrowingFile
from pipeline.reporting.tensorboard import TensorBoard
from pipeline.runtime import stopping


class Reporter:
    """Reports one start of a run below `workdir`, a local path or `gs://…`.

    Args:
      workdir: the run's directory.
      hparams: for the total steps and the epochs.
      start_step: the step from which this start continues.
      goodput: the phases of this process.
      tensorboard: whether to write TensorBoard files too.
    """

    def __init__(self, workdir: str, hparams: Hyperparameters, start_step: int, goodput: Goodput, *, tensorboard: bool):
        # A restarted run is not finished, even if it was killed just after writing its summary.
        events, damaged = _events_and_damage(workdir)
        self.events = [event for event in events if event["step"] <= start_step and event["event"] != "summary"]
        self._hparams = hparams
        self._goodput = goodput
        self.starts(start_step)
        self._record = self._tensorboard = self._bar = None
        if jax.process_index() == 0:
            path = epath.Path(workdir) / "metrics.jsonl"
            if damaged:
                _set_aside(damaged, epath.Path(workdir) / "metrics.damaged")
            write_whole(path, "".join(json.dumps(event) + "\n" for event in self.events))
            self._record = GrowingFile(path)
            if tensorboard:
                self._tensorboard = TensorBoard(workdir, start_step)
            if sys.stdout.isatty():
                self._bar = tqdm(total=hparams.total_steps, initial=start_step, unit="step", leave=False)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.close()
        for file in self._files():
            file.close()

    def wait(self) -> None:
        """Waits until all reports are written."""
        for file in self._files():
            file.wait()

    def _files(self) -> list:
        return [file for file in (self._record, self._tensorboard) if file is not None]

    def log(self, text: str) -> None:
        """Prints text on the console of process 0."""
        if self._bar is not None:
            stopping.say(text, functools.partial(tqdm.write, file=sys.stdout))
        else:
            log(text)

    def starts(self, step: int) -> None:
        """Begins to measure the rate, after a step."""
        self._last = (step, time.monotonic(), self._goodput.seconds("input"))

    def advance(self, step: int) -> None:
        """Moves the progress bar."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def train(self, step: int, values: dict[str, float]) -> None:
        """Reports the training metrics since the last report, with the rate, the input wait and the time left."""
        last_step, last_time, last_input = self._last
        now, waited = time.monotonic(), self._goodput.seconds("input")
        seconds_per_step = (now - last_time) / max(step - last_step, 1)
        self._last = (step, now, waited)
        rate = self._hparams.batch_size / seconds_per_step
        waiting = (waited - last_input) / max(now - last_time, 1e-9)
        left = (self._hparams.total_steps - step) * seconds_per_step
        self.record(
            "train",
            step,
            {**values, "images_per_second": rate, "input_wait_share": waiting, "seconds": self._goodput.by_phase()},
        )
        self.log(
            f"step {step:>{len(str(self._hparams.total_steps))}}/{self._hparams.total_steps}"
            f"  epoch {step / self._hparams.steps_per_epoch:6.2f}  loss {values['loss']:.4f}"
            f"  top-1 {values['accuracy']:6.2%}  lr {values['learning_rate']:.3e}  {rate:,.0f} images/s"
            f"  input wait {waiting:4.0%}  left {_clock(left)}"
        )

    def evaluation(self, step: int, results: dict[str, dict[str, float]]) -> None:
        """Reports the metrics of each set of weights by its name."""
        flat = {f"{weights}_{name}": value for weights, values in results.items() for name, value in values.items()}
        self.record("evaluation", step, flat)
        for weights, values in results.items():
            self.log(
                f"evaluation at step {step}, {weights} weights: top-1 {values['top1']:.2%}  top-5 {values['top5']:.2%}"
                f"  loss {values['loss']:.4f}  on {values['examples']:,} examples"
            )
        self.starts(step)

    def record(self, event: str, step: int, values: dict[str, Any]) -> None:
        """Appends an event to `metrics.jsonl` and its numbers to TensorBoard, in the background."""
        entry = {"event": event, "step": step, "epoch": step / self._hparams.steps_per_epoch, **values}
        self.events.append(entry)
        if self._record is None:
            return
        self._record.append(f"{json.dumps(entry)}\n".encode())
        scalars = {f"{event}/{name}": value for name, value in values.items() if isinstance(value, int | float)}
        if scalars and self._tensorboard is not None:
            self._tensorboard.write(step, scalars)

    def has(self, event: str, step: int) -> bool:
        """Returns whether such an event was recorded for the step."""
        return any(entry["event"] == event and entry["step"] == step for entry in self.events)


def log(text: str) -> None:
    """Prints text on the console of process 0."""
    if jax.process_index() == 0:
        stopping.say(text, functools.partial(print, flush=True))


def read_events(workdir: str) -> list[dict]:
    """Returns the entries of `<workdir>/metrics.jsonl`; none if there is no such file.

    An unfinished last line is ignored. Other damaged lines are named in the log and ignored.
    """
    return _events_and_damage(workdir)[0]


def _events_and_damage(workdir: str) -> tuple[list[dict], list[str]]:
    """Returns the entries and the damaged lines, such as a power failure leaves."""
    path = epath.Path(workdir) / "metrics.jsonl"
    if not path.exists():
        return [], []
    events, damaged = [], []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and isinstance(event.get("event"), str) and isinstance(event.get("step"), int):
            events.append(event)
        else:
            damaged.append(line.decode(errors="backslashreplace"))
            logging.warning("%s: line %d is damaged and left out: %.80s", path, number, damaged[-1])
    return events, damaged


def _set_aside(lines: list[str], path: epath.Path) -> None:
    """Appends lines to a file."""
    before = path.read_text() if path.exists() else ""
    write_whole(path, before + "".join(f"{line}\n" for line in lines))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
