"""The numbers of a run as TensorBoard shows them: one line for each, however often the run was restarted.

The only importer of clu's writers. A thread of its own writes, because importing TensorFlow takes seconds in which the run can
restore its state and compile, and because the files may be far away.
"""

import concurrent.futures
import time

from etils import epath


class TensorBoard:
    """The TensorBoard files of one run below `<workdir>/tensorboard`.

    Args:
      workdir: the run's directory, a local path or `gs://…`.
      start_step: the step at which the run (again) begins; points of later steps are retracted.
    """

    def __init__(self, workdir: str, start_step: int):
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "tensorboard")
        self._writer = self._thread.submit(_open, str(epath.Path(workdir) / "tensorboard"), start_step)
        self._pending = []

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Hands points over to be written."""
        self._pending.append(self._thread.submit(self._write, step, scalars))

    def wait(self) -> None:
        """Waits until all points are written; raises what went wrong."""
        while self._pending:
            self._pending.pop(0).result()

    def close(self) -> None:
        """Waits as `wait`; does not wait for TensorFlow where there is nothing to write."""
        if self._pending or self._writer.done():
            self.wait()
            self._writer.result().close()
        self._thread.shutdown(wait=False)

    def _write(self, step: int, scalars: dict[str, float]) -> None:
        self._writer.result().write_scalars(step, scalars)
        self._writer.result().flush()


def _open(directory: str, start_step: int):
    from clu import metric_writers  # imports TensorFlow

    epath.Path(directory).mkdir(parents=True, exist_ok=True)
    _retract_later_steps(directory, start_step)
    return metric_writers.SummaryWriter(directory)


def _retract_later_steps(directory: str, start_step: int) -> None:
    """Has TensorBoard forget points of steps after `start_step` that earlier processes of this run wrote.

    A session-start event is TensorBoard's own mark of a restart: readers drop what lies at or after its step.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(directory, filename_suffix=".restart")
    writer.add_event(Event(step=start_step + 1, wall_time=time.time(), session_log=SessionLog(status=SessionLog.START)))
    writer.close()
