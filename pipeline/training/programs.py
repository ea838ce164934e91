"""The compiled train step of each stage, one of them ahead: no step waits for a compiler that had a stage's time.

Owns which programs there are at a time: the one of the stage that is being trained and the next one, which a thread of its own
compiles meanwhile; those of earlier stages are let go. Knows nothing of steps. The thread cannot be interrupted: a process
that has to leave while it compiles leaves as `runtime/stopping.py` does.
"""

import concurrent.futures
import threading
from collections.abc import Callable, Sequence

from absl import logging

from pipeline.configuration.stages import Stage


class StagePrograms:
    """The programs of a run's stages.

    Args:
      stages: In order.
      compile_stage: Makes the program of one.
    """

    def __init__(self, stages: Sequence[Stage], compile_stage: Callable[[Stage], Callable]):
        self._stages = stages
        self._compile = compile_stage
        self._programs: dict[int, concurrent.futures.Future] = {}

    def enter(self, index: int) -> Callable:
        """Returns the program of a stage, waits for it if it must, and has the next stage's begun in the background.

        Raises whatever the compiler raised.
        """
        program = self._begun(index).result()
        self._programs = {kept: found for kept, found in self._programs.items() if kept >= index}
        if index + 1 < len(self._stages):
            self._begun(index + 1)
        return program

    def _begun(self, index: int) -> concurrent.futures.Future:
        """Returns the future program of a stage; begins it where that has not been done."""
        if index not in self._programs:
            future = self._programs[index] = concurrent.futures.Future()
            name = f"compiling stage {index + 1}"
            threading.Thread(target=self._fulfil, args=(future, index), name=name, daemon=True).start()
        return self._programs[index]

    def _fulfil(self, future: concurrent.futures.Future, index: int) -> None:
        try:
            future.set_result(self._compile(self._stages[index]))
        except BaseException as error:
            logging.error("The train step of stage %d cannot be compiled: %s", index + 1, error)  # known long before
            future.set_exception(error)
