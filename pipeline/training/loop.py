"""Training, from a configuration to a finished run; read it top to bottom, then `run.py`, which takes the steps.

The same call starts a run, continues one that was stopped anywhere, and recognises one that is finished.
"""

import functools

import jax
from etils import epath
from ml_collections import ConfigDict

from pipeline.errors import ConfigError
from pipeline.host.announcing import announce
from pipeline.reporting.goodput import Goodput
from pipeline.reporting.reporter import Reporter, log, read_events
from pipeline.runtime import agreement, distributed, workdir_lock
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.compilation import CompilationCache
from pipeline.runtime.stopping import StopRequests
from pipeline.runtime.watchdog import Watchdog
from pipeline.storage import region
from pipeline.training.compatibility import check_continues
from pipeline.training.experiment import Experiment
from pipeline.training.results import Results, log_results, read_results, write_results
from pipeline.training.run import Context, Run
from pipeline.training.update.state import TrainState


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
            context = Context(experiment, workdir, checkpoints, best, reporter, goodput, cache, stop_requests, watchdog)
            results = Run(context).to_the_end(state)
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


def _seconds_so_far(workdir: str) -> dict[str, float]:
    """Returns the seconds by phase of earlier starts of the run, including steps that were lost."""
    return next((event["seconds"] for event in reversed(read_events(workdir)) if "seconds" in event), {})
