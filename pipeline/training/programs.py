"""The compiled train steps of the stages: the next stage's program is compiled during the current stage.

At any time there are the current stage's program and the next one, which a thread compiles in the background. Programs of
earlier stages are released. The thread cannot be interrupted; `runtime/stopping.py` handles a process that must leave
meanwhile.
"""

import concurrent.futures
import threading
from collections.abc import Callable, Sequence

from absl import logging

from pipeline.configuration.stages import Stage


class StagePrograms:
    """The programs of a run's stages.

    Args:
      stages: The stages, in order.
      compile_stage: Compiles the program of a stage.
    """

    def __init__(self, stages: Sequence[Stage], compile_stage: Callable[[Stage], Callable]):
        self._stages = stages
        self._compile = compile_stage
        self._programs: dict[int, concurrent.futures.Future] = {}

    def enter(self, index: int) -> Callable:
        """Returns the program of a stage, waiting if necessary, and starts to compile the next stage's in the background.

        Raises the compiler's error.
        """
        program = self._begun(index).result()
        self._programs = {kept: found for kept, found in self._programs.items() if kept >= index}
        if index + 1 < len(self._stages):
            self._begun(index + 1)
        return program

    def _begun(self, index: int) -> concurrent.futures.Future:
        """Returns the future of a stage's program; starts to compile it if that has not been done."""
        if index not in self._programs:
            future = self._programs[index] = concurrent.futures.Future()
            name = f"compiling stage {index + 1}"
            threading.Thread(target=self._fulfil, args=(future, index), name=name, daemon=True).start()
        return self._programs[index]

    def _fulfil(self, future: concurrent.futures.Future, index: int) -> None:
        try:
            future.set_result(self._compile(self._stages[index]))
        except BaseException as error:
            logging.error("The train step of stage %d cannot be compiled: %s", index + 1, error)  # before it is needed
            future.set_exception(error)
