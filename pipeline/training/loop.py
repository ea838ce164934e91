"""The training loop, from a configuration to a finished run; read it top to bottom.

The same call starts a run, continues one that was stopped anywhere, and recognises one that is finished. What happens at a step
depends on the step alone. The order at a step is update, report, checkpoint, evaluation. So a checkpoint never waits for an
evaluation, and an interrupted evaluation is made up for after a restart.
"""

import collections
import concurrent.futures
import contextlib
import functools
import itertools
import time
from collections.abc import Iterator
from typing import NoReturn

import jax
from etils import epath
from ml_collections import ConfigDict

from pipeline.configuration.durations import is_due
from pipeline.configuration.stages import stage_at
from pipeline.errors import ConfigError, Preempted, TrainingError
from pipeline.host.announcing import announce
from pipeline.reporting import figures
from pipeline.reporting.goodput import Goodput
from pipeline.reporting.reporter import Reporter, log, read_events
from pipeline.runtime import agreement, distributed, workdir_lock
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.compilation import CompilationCache
from pipeline.runtime.stopping import StopRequests
from pipeline.runtime.watchdog import Watchdog
from pipeline.storage import region
from pipeline.training.compatibility import check_continues
from pipeline.training.evaluation import evaluate
from pipeline.training.experiment import Experiment
from pipeline.training.programs import StagePrograms
from pipeline.training.results import Results, log_results, read_results, write_results
from pipeline.training.update.metrics import NO_STEP, TrainMetrics
from pipeline.training.update.state import TrainState
from pipeline.training.update.step import Batch

COMPILATION_PATIENCE = 4.0  # multiplies the watchdog's limits, because large networks compile slowly
STEPS_IN_FLIGHT = 2  # the host runs this far ahead of the devices; each step in flight holds a batch in their memory


def train(config: ConfigDict, workdir: str) -> Results:
    """Trains until `config.duration` and returns the final evaluation.

    Args:
      config: a configuration with the structure of `configs/recipe.py`, locked.
      workdir: the run's directory, absolute and the same for all processes; an existing run is continued.

    Raises:
      ConfigError, DataError: the run cannot start.
      TrainingError: the loss or a gradient is not finite.
      Preempted: the run was asked to stop and has saved its progress.
    """
    watchdog = Watchdog(warn_seconds=config.watchdog.warn_seconds, abort_seconds=config.watchdog.abort_seconds)
    with watchdog:
        watchdog.beat("looking for the devices")
        distributed.check_platform(config.platform)
        watchdog.who = f"process {jax.process_index()}"
        cache = CompilationCache(workdir if jax.process_count() > 1 else None)
        goodput = Goodput(_seconds_so_far(workdir))
        watchdog.beat("opening the data")
        announce(f"Opening {config.data.name}", "a few seconds; of a bucket a minute")
        experiment = Experiment.from_config(config)
        watchdog.beat("comparing this start with those of the other processes")
        agreement.check_same(
            {
                "configuration": experiment.metadata["config"],
                "data": experiment.metadata["data"],
                "code": agreement.code_version(),
            }
        )
        agreement.check_shared(workdir)
        if jax.process_index() == 0:
            region.warn_if_far(workdir)
            region.warn_if_far(config.data.data_dir)
        return _finished(experiment, workdir) or _train(experiment, workdir, cache, goodput, watchdog)


def _finished(experiment: Experiment, workdir: str) -> Results | None:
    """Returns the results of the run if it is finished, and logs that."""
    hparams = experiment.hparams
    finished = read_results(workdir, hparams.total_steps)
    if finished is None:
        return None
    results, metadata = finished
    if "config" in metadata:  # earlier versions did not write it
        _check_same_run(experiment, metadata, workdir)
    log_results(log, results, workdir, hparams.num_eval_examples)
    log(f"This run is finished, after {hparams.total_steps:,} steps; nothing is trained again.")
    return results


def _train(
    experiment: Experiment, workdir: str, cache: CompilationCache, goodput: Goodput, watchdog: Watchdog
) -> Results:
    """Trains from the newest checkpoint, or from the start, to the end.

    All processes initialise in this order:

    1. the initial state, if there is no checkpoint; a start that is refused by then has written nothing;
    2. the lock of the directory, and the checkpoints;
    3. the state of the newest readable checkpoint, else the initial one;
    4. the record: later entries, and later best states, are dropped, because their steps will be computed again;
    5. the compiled step, while the input fills its buffers.

    A start finds one of these cases:

    - no checkpoint: the run begins at step 0;
    - a checkpoint: the run continues after its step, and is refused if configuration or data differ (`compatibility.py`);
    - a damaged newest checkpoint: it is set aside, and the one before it is taken;
    - an evaluation that is due at the state's step and not recorded: it is made up for;
    - a recorded best evaluation whose state was not saved: it is saved;
    - `results.json` for this number of steps: the run is finished, and nothing is trained (`_finished`).
    """
    config, hparams = experiment.config, experiment.hparams
    stop_requests = StopRequests()
    new_state = None
    if distributed.as_on_process_0(not (epath.Path(workdir) / "checkpoints").exists()):
        # Nothing is written before this, so a refused start, such as one from another network's weights, leaves nothing.
        watchdog.beat("making the initial state")
        new_state = stop_requests.unless_asked(experiment.create_state)
    epath.Path(workdir).mkdir(parents=True, exist_ok=True)
    watchdog.beat("opening the checkpoints")
    with (
        workdir_lock.alone_in(workdir),
        Checkpoints(
            f"{workdir}/checkpoints", keep=config.checkpoint.keep, keep_every_steps=hparams.keep_every_steps
        ) as checkpoints,
        Checkpoints(f"{workdir}/best", keep=2) as best,  # the best and the one before; see `forget_after`
    ):
        watchdog.beat("restoring the newest checkpoint")
        announce("Restoring the newest checkpoint, or making a new state", "5 seconds to a minute")
        state, start_step = _restored(experiment, checkpoints, workdir) or (new_state, 0)
        if state is None:
            watchdog.beat("making the initial state")
            state = stop_requests.unless_asked(experiment.create_state)
        best.forget_after(start_step)  # as in the record: those steps are computed again
        with Reporter(workdir, hparams, start_step, goodput, tensorboard=config.log.tensorboard) as reporter:
            reporter.log(
                f"{config.model.variant} on {config.data.name}, {jax.device_count()} {jax.default_backend()} device(s), "
                f"{jax.process_count()} process(es):\n{hparams.describe()}"
            )
            if start_step > 0:
                reporter.log(f"Continuing after step {start_step:,}.")
            run = _Run(experiment, checkpoints, best, reporter, goodput, cache, stop_requests, watchdog, workdir)
            results = run.to_the_end(state)
            reporter.record("summary", hparams.total_steps, {"seconds": goodput.by_phase()})
            reporter.wait()
            write_results(workdir, hparams.total_steps, results, reporter.events, experiment.metadata)
            log_results(reporter.log, results, workdir, hparams.num_eval_examples)
            if experiment.staging is not None:
                experiment.staging.remove()
            reporter.log(f"Time over all starts, {goodput.describe()}")
            return results


def _restored(experiment: Experiment, checkpoints: Checkpoints, workdir: str) -> tuple[TrainState, int] | None:
    """Returns the state of the newest checkpoint and its step; None if there is no checkpoint."""
    check = functools.partial(_check_same_run, experiment, workdir=workdir)
    restored = checkpoints.restore_newest(experiment.abstract_state(), check)
    if restored is None:
        return None
    state, _ = restored
    step, total_steps = int(state.step), experiment.hparams.total_steps
    if step > total_steps:
        raise ConfigError(
            f"{workdir} has a checkpoint of step {step:,}, but config.duration={experiment.config.duration!r} ends after "
            f"{total_steps:,}: give a longer duration, or another --workdir"
        )
    return state, step


def _check_same_run(experiment: Experiment, metadata: dict, workdir: str) -> None:
    """Raises if the directory's run, by its metadata, is another one than this start's and may not become it."""
    check_continues(
        metadata,
        experiment.metadata,
        workdir,
        saved_state=functools.partial(experiment.abstract_state_of, metadata),
        current_state=experiment.abstract_state(),
        log=log,
    )


class _Run:
    """The steps of a run and the events between them."""

    def __init__(
        self,
        experiment: Experiment,
        checkpoints: Checkpoints,
        best: Checkpoints,
        reporter: Reporter,
        goodput: Goodput,
        cache: CompilationCache,
        stop_requests: StopRequests,
        watchdog: Watchdog,
        workdir: str,
    ):
        self._experiment = experiment
        self._hparams = experiment.hparams
        self._checkpoints = checkpoints
        self._best = best
        self._reporter = reporter
        self._goodput = goodput
        self._cache = cache
        self._stop_requests = stop_requests
        self._workdir = workdir
        self._last_save = time.monotonic()
        self._watchdog = watchdog
        self._eval_passes = experiment.eval_passes()
        self._programs = StagePrograms(self._hparams.stages, experiment.compile_train_step)
        self._empty_metrics = jax.jit(TrainMetrics.empty, out_shardings=experiment.replicated)

    def to_the_end(self, state: TrainState) -> Results:
        """Takes the remaining steps and returns the final evaluation."""
        with contextlib.closing(self._eval_passes):
            return self._to_the_end(state)

    def _to_the_end(self, state: TrainState) -> Results:
        start_step, total_steps = int(state.step), self._hparams.total_steps
        self._keep_if_best(state, start_step)  # an earlier process may have died between its evaluation and its save
        results = self._evaluate_if_due(state, start_step)
        if start_step < total_steps:
            host_batches = self._experiment.train_batches(start_step)
            batches, train_step = self._start(start_step, host_batches)
            stage_end = self._hparams.stages[stage_at(self._hparams.stages, start_step)].end_step
            in_flight = collections.deque()
            # Implicit host-device transfers are errors here.
            with jax.transfer_guard("disallow"), contextlib.closing(host_batches):
                for step in range(start_step + 1, total_steps + 1):
                    self._watchdog.beat(f"at step {step}")
                    if step > stage_end:
                        train_step, stage_end = self._next_stage(state, step - 1)
                    with self._goodput.phase("input"):
                        batch = next(batches)
                    with self._goodput.phase("step"):
                        state, loss = train_step(state, batch)
                        in_flight.append(loss)
                        if len(in_flight) > STEPS_IN_FLIGHT:
                            in_flight.popleft().block_until_ready()
                    self._reporter.advance(step)
                    state = self._report_if_due(state, step)
                    self._save_if_due(state, step)
                    results = self._evaluate_if_due(state, step)
        self._watchdog.beat("waiting for the last checkpoint to be written")
        with self._goodput.phase("checkpoint"):
            self._checkpoints.wait()
            self._best.wait()
        self._watchdog.beat("writing the results")
        return results

    def _start(self, start_step: int, host_batches: Iterator[dict]):
        """Returns the batches on the devices and the compiled step; the input fills its buffers while the step compiles."""

        stage = stage_at(self._hparams.stages, start_step)

        def compile_and_read():
            with concurrent.futures.ThreadPoolExecutor(1) as background:
                first = background.submit(next, host_batches)
                return self._programs.enter(stage), first.result()

        self._watchdog.beat("compiling the train step", COMPILATION_PATIENCE)
        self._reporter.log("Compiling the train step (usually 1 to 5 minutes; seconds when it is in the cache) …")
        with self._goodput.phase("compile"):
            try:
                train_step, first = self._stop_requests.unless_asked(compile_and_read)
            except Preempted:
                self._record_stop(start_step)
                raise
        self._reporter.log(f"Compiled in {self._goodput.seconds('compile'):.1f} seconds; {self._cache.describe()}.")
        if start_step == 0 and jax.process_index() == 0:
            figures.write_grid(f"{self._workdir}/input_preview.png", first["image"][:64])
        self._goodput.started()
        self._reporter.starts(start_step)
        return self._experiment.on_devices(itertools.chain([first], host_batches)), train_step

    def _next_stage(self, state: TrainState, step: int):
        """Returns the compiled step of the stage that begins after `step` steps, and where that stage ends."""
        stages, index = self._hparams.stages, stage_at(self._hparams.stages, step)
        self._watchdog.beat(f"waiting for the train step of stage {index + 1}", COMPILATION_PATIENCE)
        before = self._goodput.seconds("compile")
        with self._goodput.phase("compile"):
            try:
                train_step = self._stop_requests.unless_asked(lambda: self._programs.enter(index))
            except Preempted:
                self._save_and_stop(state, step)
        waited = self._goodput.seconds("compile") - before
        self._reporter.log(
            f"Stage {index + 1} of {len(stages)}, {stages[index].describe()}; waited {waited:.1f} seconds for its program."
        )
        self._reporter.starts(step)
        return train_step, stages[index].end_step

    def _report_if_due(self, state: TrainState, step: int) -> TrainState:
        """Reports the metrics since the last report and returns the state with empty sums."""
        if not (is_due(step, self._hparams.log_every_steps) or step == self._hparams.total_steps):
            return state
        with self._goodput.phase("step"):
            metrics = jax.device_get(state.metrics)
        self._check_finite(metrics)
        values = {name: value.item() for name, value in metrics.compute().items() if name != "nonfinite"}
        values["records"] = f"{values['records']:08x}"
        with jax.transfer_guard("allow"):
            # The rate of the update that led to this step; updates count from 0.
            values["learning_rate"] = float(self._experiment.schedule(step - 1))
        self._reporter.train(step, values)
        return state.replace(metrics=self._empty_metrics())

    def _save_if_due(self, state: TrainState, step: int) -> None:
        if self._stop_requests.asked():
            self._save_and_stop(state, step)
        due = is_due(step, self._hparams.checkpoint_every_steps) or step == self._hparams.total_steps
        if due or self._due_by_the_clock(step):
            self._save(state, step)

    def _save(self, state: TrainState, step: int) -> None:
        self._watchdog.beat(f"saving the checkpoint of step {step}")
        self._check_finite(jax.device_get(state.metrics))
        with self._goodput.phase("checkpoint"):
            # Reports and the best state up to this step must be complete before a run can continue from it. Never overlap two
            # saves: processes could join different ones.
            self._reporter.wait()
            self._best.wait()
            self._checkpoints.save(step, state, self._experiment.metadata)
        self._last_save = time.monotonic()

    def _save_and_stop(self, state: TrainState, step: int) -> NoReturn:
        self._save(state, step)
        with self._goodput.phase("checkpoint"):
            self._checkpoints.wait()
        self._record_stop(step)
        raise Preempted(f"asked to stop: step {step:,} is saved; the same command continues from there")

    def _record_stop(self, step: int) -> None:
        self._reporter.record("stop", step, {"seconds": self._goodput.by_phase()})

    def _due_by_the_clock(self, step: int) -> bool:
        """Returns process 0's answer whether a save is due by time; asked at reports, where the host waits anyway."""
        minutes = self._hparams.checkpoint_every_minutes
        if not minutes or not is_due(step, self._hparams.log_every_steps):
            return False
        due = time.monotonic() - self._last_save >= 60 * minutes
        return distributed.as_on_process_0(due)

    def _evaluate_if_due(self, state: TrainState, step: int) -> Results | None:
        due = step > 0 and (is_due(step, self._hparams.evaluate_every_steps) or step == self._hparams.total_steps)
        if not due or (self._reporter.has("evaluation", step) and step < self._hparams.total_steps):
            return None
        variables = {"raw": state.raw_variables()}
        if state.ema is not None:
            variables = {"ema": state.ema, **variables}
        self._watchdog.beat(f"compiling the evaluation step at step {step}", COMPILATION_PATIENCE)
        self._reporter.log(f"Evaluating after step {step:,} …")
        with (
            self._goodput.phase("evaluation"),
            jax.transfer_guard("allow"),
            contextlib.closing(self._experiment.eval_batches(self._eval_passes)) as batches,
        ):
            try:
                eval_step = self._stop_requests.unless_asked(lambda: self._experiment.eval_step)
            except Preempted:
                self._save_and_stop(state, step)
            batches = self._interruptible(batches, state, step)
            results = evaluate(eval_step, variables, batches, self._experiment.replicated)
        if not self._reporter.has("evaluation", step):
            self._reporter.evaluation(step, results)
        self._keep_if_best(state, step)
        return results

    def _interruptible(self, batches: Iterator[Batch], state: TrainState, step: int) -> Iterator[Batch]:
        where = f"in the evaluation at step {step}"
        self._watchdog.beat(where)
        for batch in batches:
            self._watchdog.beat(where)
            if self._stop_requests.asked():
                self._save_and_stop(state, step)
            yield batch

    def _keep_if_best(self, state: TrainState, step: int) -> None:
        """Saves the state if its recorded evaluation is better than all before."""
        key = "ema_top1" if state.ema is not None else "raw_top1"
        top1 = {event["step"]: event[key] for event in self._reporter.events if event["event"] == "evaluation"}
        if step in top1 and all(top1[step] > top1[earlier] for earlier in top1 if earlier < step):
            self._watchdog.beat(f"saving the best state, that of step {step}")

            self._check_finite(jax.device_get(state.metrics))
            with self._goodput.phase("checkpoint"):
                self._checkpoints.wait()
                self._best.save(step, state, self._experiment.metadata)

    def _check_finite(self, metrics: TrainMetrics) -> None:
        """Raises if a loss or gradient since the last report is not finite, so no such state is ever saved."""
        step = int(metrics.nonfinite.compute())
        if step != NO_STEP:
            self._checkpoints.wait()
            good = self._checkpoints.steps()
            raise TrainingError(
                f"the loss or a gradient at step {step:,} is not finite; "
                + (f"the last good checkpoint is that of step {good[-1]:,}" if good else "there is no checkpoint yet")
                + f" in {self._workdir}/checkpoints. Try a lower config.schedule.lr_per_256 or a longer warm-up"
            )


def _seconds_so_far(workdir: str) -> dict[str, float]:
    """Returns the seconds by phase of earlier starts of the run, including steps that were lost."""
    return next((event["seconds"] for event in reversed(read_events(workdir)) if "seconds" in event), {})
