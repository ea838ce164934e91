"""Runs trials on this machine, several at a time, and records those that failed for good.

Each trial is a process of the trainer. Its output goes to a file beside the trial's folder. On SIGTERM, Ctrl-C or a closed
terminal each process is asked once to save and end; a second SIGTERM or Ctrl-C kills them at once. Ctrl-Z suspends them too. If
this process is killed, they die with it. The next start continues trials that have not finished.
"""

import contextlib
import dataclasses
import os
import pathlib
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping

from etils import epath

from pipeline.errors import ConfigError, DataError, MachineError, Preempted, TrainingError
from pipeline.host import heap
from pipeline.trials import trial_process
from pipeline.trials.trials import Trial, outcome, outcome_of_ended, write_failure

TRAINER = ("-m", "pipeline.trials.trial_process")  # what the interpreter runs for a trial
_ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
_TAIL_BYTES = 20_000
_ERRORS = {each.exit_code: each for each in (ConfigError, DataError, MachineError, TrainingError)}


@dataclasses.dataclass(frozen=True)
class Machine:
    """The resources that trials run on.

    Attributes:
      parallel: Number of trials that run at a time.
      gpus: The number of each slot's GPU; empty to leave the choice to JAX.
      environment: The environment variables of the trials.
    """

    parallel: int
    gpus: tuple[str, ...]
    environment: Mapping[str, str]

    def environment_of(self, slot: int) -> dict[str, str]:
        """Returns the environment variables of the trials in a slot."""
        own = {"CUDA_VISIBLE_DEVICES": self.gpus[slot]} if self.gpus else {}
        variables = {**self.environment, trial_process.PARENT: str(os.getpid()), **own}
        if variables.get("JAX_PLATFORMS", "") in ("", "cpu"):  # as launch/local.sh starts a run
            heap.keep_memory(variables)
        return variables


def run_all(
    take: Callable[[], Trial | None],
    study: epath.Path,
    arguments: Callable[[Trial], list[str]],
    machine: Machine,
    ended: Callable[[Trial, str], None],
    fails: Callable[[Exception], bool] = lambda error: isinstance(error, TrainingError),
) -> None:
    """Trains until there is no trial left.

    Args:
      take: Returns a trial without an outcome to start now; None if there is none, or none before another one has ended.
      study: The folder of the study.
      arguments: Returns the arguments of `pipeline.train` for a trial.
      machine: The resources that they run on.
      ended: Called with each trial that has ended, and with text that says how.
      fails: Whether an error is the trial's own, so that it is recorded and the others go on.

    Raises:
      Preempted: this process was asked to stop; all trials have saved.
      ConfigError, DataError, MachineError: a trial ended with such an error, which the others would meet too.
    """
    running, slots = {}, list(range(machine.parallel))
    with _stopping(running) as asked:
        try:
            while True:
                while slots and not asked and (trial := take()) is not None:
                    process = _Process(trial, slots.pop(0), study, arguments(trial), machine)
                    running[process.descriptor] = process
                    if asked:  # meanwhile
                        process.ask_to_stop()
                if not running:
                    break
                for process in _ended(running):
                    slots.append(process.slot)
                    if not asked:
                        _conclude(process, study, fails)
                        found = outcome_of_ended(process.trial, study)
                        how = found.problem if found.top1 is None else f"{found.top1:.2%} top-1"
                        ended(process.trial, f"{process.trial}: {how}, {process.seconds():.0f} s")
        finally:
            for process in running.values():  # an error of one of them ends the others
                process.kill()
                process.exit_code()
    if asked:
        raise Preempted("the trials have saved and ended; repeat the command to continue")


class _Process:
    """A running trial."""

    def __init__(self, trial: Trial, slot: int, study: epath.Path, arguments: list[str], machine: Machine):
        self.trial, self.slot = trial, slot
        workdir = trial.workdir(study)
        workdir.parent.mkdir(parents=True, exist_ok=True)
        self.log = pathlib.Path(f"{workdir}.log")
        self._start, self._asked = time.monotonic(), False
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *TRAINER, *arguments],
                cwd=_ROOT,
                env=machine.environment_of(slot),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so Ctrl-C reaches it only through this process, and once
            )
        self.descriptor = os.pidfd_open(self._process.pid)

    def ask_to_stop(self) -> None:
        """Asks the trial once to save and end. A trainer that is asked twice does not save."""
        if not self._asked:
            self._asked = True
            self._process.terminate()

    def pass_on(self, number: int) -> None:
        """Sends a signal to the trial and its data workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def exit_code(self) -> int:
        with contextlib.suppress(OSError):
            os.close(self.descriptor)
        return self._process.wait()

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def last_error(self) -> str:
        """Returns the last error that the trial printed."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
        return errors[-1] if errors else f"it printed no error; {self.log} has its output"


@contextlib.contextmanager
def _stopping(running: dict[int, _Process]) -> Generator[list[int]]:
    """Passes signals on to the running trials. Yields the list of the requests to stop."""
    asked = []

    def on_signal(number: int, _) -> None:
        asked.append(number)
        insisted = sum(each != signal.SIGHUP for each in asked) > 1  # shells and systemd send SIGHUP along with others
        for process in list(running.values()):
            process.kill() if insisted else process.ask_to_stop()

    def on_suspension(*_) -> None:
        for process in list(running.values()):
            process.pass_on(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)  # until somebody continues it
        for process in list(running.values()):
            process.pass_on(signal.SIGCONT)

    handlers = {signal.SIGTERM: on_signal, signal.SIGINT: on_signal, signal.SIGTSTP: on_suspension}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as with nohup
        handlers[signal.SIGHUP] = on_signal
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(running: dict[int, _Process]) -> list[_Process]:
    """Waits until at least one process has ended, and returns those that have."""
    poll = select.poll()
    for descriptor in running:
        poll.register(descriptor, select.POLLIN)
    return [running.pop(descriptor) for descriptor, _ in poll.poll()]


def _conclude(process: _Process, study: epath.Path, fails: Callable[[Exception], bool]) -> None:
    """Ensures that an ended trial has an outcome, or raises the reason why it has none."""
    code = process.exit_code()
    if code == 0:
        if outcome(process.trial, study) is None:
            raise MachineError(f"trial {process.trial} ended without results; {process.log} has its output")
    elif code in _ERRORS:
        problem = process.last_error()
        if not fails(_ERRORS[code](problem)):
            raise _ERRORS[code](f"trial {process.trial}: {problem}")
        write_failure(process.trial, study, problem)
    elif code == Preempted.exit_code or code < 0:
        how = "was asked to stop" if code > 0 else f"was ended by {signal.Signals(-code).name}"
        memory = ", or by the system for lack of memory" if code == -signal.SIGKILL else ""
        raise MachineError(
            f"trial {process.trial} {how} by another program or person{memory}; repeat the command to continue"
        )
    else:
        raise MachineError(f"trial {process.trial} ended with exit code {code}; {process.log} has its output")
