"""The training loop: takes the steps of a run, and reports, saves and evaluates between them.

What happens at a step depends on the step alone. The order at a step is update, report, checkpoint, evaluation. So a checkpoint
never waits for an evaluation, and an interrupted evaluation is made up for after a restart.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator
from typing import NoReturn

import jax

from pipeline.configuration.durations import is_due
from pipeline.configuration.stages import stage_at
from pipeline.errors import Preempted, TrainingError
from pipeline.reporting import figures
from pipeline.reporting.goodput import Goodput
from pipeline.reporting.reporter import Reporter
from pipeline.runtime import distributed
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.compilation import CompilationCache
from pipeline.runtime.stopping import StopRequests
from pipeline.runtime.watchdog import Watchdog
from pipeline.training.evaluation import evaluate
from pipeline.training.experiment import Experiment
from pipeline.training.programs import StagePrograms
from pipeline.training.results import Results
from pipeline.training.update.metrics import NO_STEP, TrainMetrics
from pipeline.training.update.state import TrainState
from pipeline.training.update.step import Batch, Norms

COMPILATION_PATIENCE = 4.0  # multiplies the watchdog's limits, because large networks compile slowly
STEPS_IN_FLIGHT = 2  # the host runs this far ahead of the devices; each step in flight holds a batch in their memory


@dataclasses.dataclass(frozen=True)
class Context:
    """What a run works with.

    Attributes:
      experiment: model, optimizer, data and devices.
      workdir: the run's directory.
      checkpoints: the newest states.
      best: the states with the best evaluations.
      reporter: the record, TensorBoard and the console.
      goodput: the time by phase.
      cache: compiled programs.
      stop_requests: whether a process was asked to stop.
      watchdog: ends a process that hangs.
    """

    experiment: Experiment
    workdir: str
    checkpoints: Checkpoints
    best: Checkpoints
    reporter: Reporter
    goodput: Goodput
    cache: CompilationCache
    stop_requests: StopRequests
    watchdog: Watchdog


class Run:
    """The steps of a run and the events between them."""

    def __init__(self, context: Context):
        self._context = context
        self._hparams = context.experiment.hparams
        self._last_save = time.monotonic()
        self._eval_passes = context.experiment.eval_passes()
        self._programs = StagePrograms(self._hparams.stages, context.experiment.compile_train_step)
        self._empty_metrics = jax.jit(TrainMetrics.empty, out_shardings=context.experiment.replicated)

    def to_the_end(self, state: TrainState) -> Results:
        """Takes the remaining steps and returns the final evaluation."""
        with contextlib.closing(self._eval_passes):
            return self._to_the_end(state)

    def _to_the_end(self, state: TrainState) -> Results:
        start_step, total_steps = int(state.step), self._hparams.total_steps
        self._keep_if_best(state, start_step)  # an earlier process may have died between its evaluation and its save
        results = self._evaluate_if_due(state, start_step)
        if start_step < total_steps:
            host_batches = self._context.experiment.train_batches(start_step)
            batches, train_step = self._start(start_step, host_batches)
            stage_end = self._hparams.stages[stage_at(self._hparams.stages, start_step)].end_step
            in_flight = collections.deque()
            # Implicit host-device transfers are errors here.
            with jax.transfer_guard("disallow"), contextlib.closing(host_batches):
                for step in range(start_step + 1, total_steps + 1):
                    self._context.watchdog.beat(f"at step {step}")
                    if step > stage_end:
                        train_step, stage_end = self._next_stage(state, step - 1)
                    with self._context.goodput.phase("input"):
                        batch = next(batches)
                    with self._context.goodput.phase("step"):
                        state, loss, *norms = train_step(state, batch)
                        in_flight.append(loss)
                        if len(in_flight) > STEPS_IN_FLIGHT:
                            in_flight.popleft().block_until_ready()
                    self._context.reporter.advance(step)
                    state = self._report_if_due(state, step, norms)
                    self._save_if_due(state, step)
                    results = self._evaluate_if_due(state, step)
        self._context.watchdog.beat("waiting for the last checkpoint to be written")
        with self._context.goodput.phase("checkpoint"):
            self._context.checkpoints.wait()
            self._context.best.wait()
        self._context.watchdog.beat("writing the results")
        assert results is not None, "the last step is always evaluated"
        return results

    def _start(self, start_step: int, host_batches: Iterator[dict]):
        """Returns the batches on the devices and the compiled step; the input fills its buffers while the step compiles."""

        stage = stage_at(self._hparams.stages, start_step)

        def compile_and_read():
            with concurrent.futures.ThreadPoolExecutor(1) as background:
                first = background.submit(next, host_batches)
                return self._programs.enter(stage), first.result()

        self._context.watchdog.beat("compiling the train step", COMPILATION_PATIENCE)
        self._context.reporter.log(
            "Compiling the train step (usually 1 to 5 minutes; seconds when it is in the cache) …"
        )
        with self._context.goodput.phase("compile"):
            try:
                train_step, first = self._context.stop_requests.unless_asked(compile_and_read)
            except Preempted:
                self._record_stop(start_step)
                raise
        self._context.reporter.log(
            f"Compiled in {self._context.goodput.seconds('compile'):.1f} seconds; {self._context.cache.describe()}."
        )
        if start_step == 0 and jax.process_index() == 0:
            figures.write_grid(f"{self._context.workdir}/input_preview.png", first["image"][:64])
        self._context.goodput.started()
        self._context.reporter.starts(start_step)
        return self._context.experiment.on_devices(itertools.chain([first], host_batches)), train_step

    def _next_stage(self, state: TrainState, step: int):
        """Returns the compiled step of the stage that begins after `step` steps, and where that stage ends."""
        stages, index = self._hparams.stages, stage_at(self._hparams.stages, step)
        self._context.watchdog.beat(f"waiting for the train step of stage {index + 1}", COMPILATION_PATIENCE)
        before = self._context.goodput.seconds("compile")
        with self._context.goodput.phase("compile"):
            try:
                train_step = self._context.stop_requests.unless_asked(lambda: self._programs.enter(index))
            except Preempted:
                self._save_and_stop(state, step)
        waited = self._context.goodput.seconds("compile") - before
        self._context.reporter.log(
            f"Stage {index + 1} of {len(stages)}, {stages[index].describe()}; waited {waited:.1f} seconds for its program."
        )
        self._context.reporter.starts(step)
        return train_step, stages[index].end_step

    def _report_if_due(self, state: TrainState, step: int, norms: list[Norms]) -> TrainState:
        """Reports the metrics since the last report and the step's norms, and returns the state with empty sums."""
        if not (is_due(step, self._hparams.log_every_steps) or step == self._hparams.total_steps):
            return state
        with self._context.goodput.phase("step"):
            metrics = jax.device_get(state.metrics)
        self._check_finite(metrics)
        values = {name: value.item() for name, value in metrics.compute().items() if name != "nonfinite"}
        values["records"] = f"{values['records']:08x}"
        for measured in jax.device_get(norms):
            values |= {name: value.item() for name, value in measured.items()}
        with jax.transfer_guard("allow"):
            # The rate of the update that led to this step; updates count from 0.
            values["learning_rate"] = float(self._context.experiment.schedule(step - 1))
        self._context.reporter.train(step, values)
        return dataclasses.replace(state, metrics=self._empty_metrics())

    def _save_if_due(self, state: TrainState, step: int) -> None:
        if self._context.stop_requests.asked():
            self._save_and_stop(state, step)
        due = is_due(step, self._hparams.checkpoint_every_steps) or step == self._hparams.total_steps
        if due or self._due_by_the_clock(step):
            self._save(state, step)

    def _save(self, state: TrainState, step: int) -> None:
        self._context.watchdog.beat(f"saving the checkpoint of step {step}")
        self._check_finite(jax.device_get(state.metrics))
        with self._context.goodput.phase("checkpoint"):
            # Reports and the best state up to this step must be complete before a run can continue from it. Never overlap two
            # saves: processes could join different ones.
            self._context.reporter.wait()
            self._context.best.wait()
            self._context.checkpoints.save(step, state, self._context.experiment.metadata)
        self._last_save = time.monotonic()

    def _save_and_stop(self, state: TrainState, step: int) -> NoReturn:
        self._save(state, step)
        with self._context.goodput.phase("checkpoint"):
            self._context.checkpoints.wait()
        self._record_stop(step)
        raise Preempted(f"asked to stop: step {step:,} is saved; the same command continues from there")

    def _record_stop(self, step: int) -> None:
        self._context.reporter.record("stop", step, {"seconds": self._context.goodput.by_phase()})

    def _due_by_the_clock(self, step: int) -> bool:
        """Returns process 0's answer whether a save is due by time; asked at reports, where the host waits anyway."""
        minutes = self._hparams.checkpoint_every_minutes
        if not minutes or not is_due(step, self._hparams.log_every_steps):
            return False
        due = time.monotonic() - self._last_save >= 60 * minutes
        return distributed.as_on_process_0(due)

    def _evaluate_if_due(self, state: TrainState, step: int) -> Results | None:
        due = step > 0 and (is_due(step, self._hparams.evaluate_every_steps) or step == self._hparams.total_steps)
        if not due or (self._context.reporter.has("evaluation", step) and step < self._hparams.total_steps):
            return None
        variables = {"raw": state.raw_variables()}
        if state.ema is not None:
            variables = {"ema": state.ema, **variables}
        self._context.watchdog.beat(f"compiling the evaluation step at step {step}", COMPILATION_PATIENCE)
        self._context.reporter.log(f"Evaluating after step {step:,} …")
        with (
            self._context.goodput.phase("evaluation"),
            jax.transfer_guard("allow"),
            contextlib.closing(self._context.experiment.eval_batches(self._eval_passes)) as batches,
        ):
            try:
                eval_step = self._context.stop_requests.unless_asked(lambda: self._context.experiment.eval_step)
            except Preempted:
                self._save_and_stop(state, step)
            batches = self._interruptible(batches, state, step)
            results = evaluate(eval_step, variables, batches, self._context.experiment.replicated)
        if not self._context.reporter.has("evaluation", step):
            self._context.reporter.evaluation(step, results)
        self._keep_if_best(state, step)
        return results

    def _interruptible(self, batches: Iterator[Batch], state: TrainState, step: int) -> Iterator[Batch]:
        where = f"in the evaluation at step {step}"
        self._context.watchdog.beat(where)
        for batch in batches:
            self._context.watchdog.beat(where)
            if self._context.stop_requests.asked():
                self._save_and_stop(state, step)
            yield batch

    def _keep_if_best(self, state: TrainState, step: int) -> None:
        """Saves the state if its recorded evaluation is better than all before."""
        key = "ema_top1" if state.ema is not None else "raw_top1"
        top1 = {event["step"]: event[key] for event in self._context.reporter.events if event["event"] == "evaluation"}
        if step in top1 and all(top1[step] > top1[earlier] for earlier in top1 if earlier < step):
            self._context.watchdog.beat(f"saving the best state, that of step {step}")

            self._check_finite(jax.device_get(state.metrics))
            with self._context.goodput.phase("checkpoint"):
                self._context.checkpoints.wait()
                self._context.best.save(step, state, self._context.experiment.metadata)

    def _check_finite(self, metrics: TrainMetrics) -> None:
        """Raises if a loss or gradient since the last report is not finite, so no such state is ever saved."""
        step = int(metrics.nonfinite.compute())
        if step != NO_STEP:
            self._context.checkpoints.wait()
            good = self._context.checkpoints.steps()
            raise TrainingError(
                f"the loss or a gradient at step {step:,} is not finite; "
                + (f"the last good checkpoint is that of step {good[-1]:,}" if good else "there is no checkpoint yet")
                + f" in {self._context.workdir}/checkpoints. Try a lower config.schedule.lr_per_256 or a longer warm-up"
            )
