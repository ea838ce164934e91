"""Reserves a directory for one run: process 0 holds its lock for all processes, and a second start is refused."""

import contextlib
from collections.abc import Generator

import jax

from pipeline.errors import ConfigError, MachineError
from pipeline.host import locking
from pipeline.runtime import distributed

LOCK = "run.lock"


@contextlib.contextmanager
def alone_in(workdir: str) -> Generator[None]:
    """Holds the lock of a run's directory while the block runs. All processes of the run must enter it.

    Raises:
      ConfigError: on every process, if another run holds the lock; process 0 names it.
      MachineError: the directory cannot be locked.
    """
    with contextlib.ExitStack() as stack:
        refusal = None
        if jax.process_index() == 0:
            try:
                stack.enter_context(locking.held(f"{workdir}/{LOCK}"))
            except (ConfigError, MachineError, OSError) as error:
                refusal = error  # raised once the other processes know
        if distributed.as_on_process_0(refusal is not None):
            raise refusal or ConfigError(f"{workdir} cannot be locked; the log of process 0 has the reason")
        yield
