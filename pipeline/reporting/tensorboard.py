"""Writes the scalars of a run for TensorBoard: one curve each, however often the run was restarted.

The module uses TensorBoard's protocol buffers and file format, but not its writers, which import TensorFlow. Each start writes
its own file. The file begins with a session-start event, at which readers drop the same and later steps of earlier starts.
"""

import os
import re
import socket
import struct
import time

import google_crc32c
from etils import epath

# protobuf makes the classes of these modules when they are imported.
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyrefly: ignore[missing-module-attribute]
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # pyrefly: ignore[missing-module-attribute]
from tensorboard.compat.proto.tensor_pb2 import TensorProto  # pyrefly: ignore[missing-module-attribute]
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto  # pyrefly: ignore[missing-module-attribute]
from tensorboard.compat.proto.types_pb2 import DT_FLOAT  # pyrefly: ignore[missing-module-attribute]

from pipeline.reporting.growing_files import GrowingFile

_BEGINNING = "events.out.tfevents."
_STAMP = re.escape(_BEGINNING) + r"(\d{10}\.\d{6})\."


class TensorBoard:
    """The TensorBoard file of one start of a run, below `<workdir>/tensorboard`.

    Args:
      workdir: the run's directory, a local path or `gs://…`.
      start_step: the step from which this start continues; points of later steps are dropped.
    """

    def __init__(self, workdir: str, start_step: int):
        directory = epath.Path(workdir) / "tensorboard"
        directory.mkdir(parents=True, exist_ok=True)
        name = f"{_BEGINNING}{_after_all_in(directory):017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = GrowingFile(directory / name)
        now = time.time()
        start = SessionLog(status=SessionLog.START)
        self._file.append(
            _record(Event(wall_time=now, file_version="brain.Event:2"))
            + _record(Event(wall_time=now, step=start_step + 1, session_log=start))
        )

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Queues the points of a step."""
        values = [_scalar(tag, value) for tag, value in scalars.items()]
        self._file.append(_record(Event(wall_time=time.time(), step=step, summary=Summary(value=values))))

    def wait(self) -> None:
        """Waits until all points are written; raises what failed."""
        self._file.wait()

    def close(self) -> None:
        """Waits until all points are written, and ends the thread."""
        self._file.close()


def _after_all_in(directory: epath.Path) -> float:
    """Returns the time, or a later one if the clock was put back after an earlier start.

    Readers read the files in the order of their names. A file that came before those of earlier starts would lose its points.
    """
    found = (re.match(_STAMP, path.name) for path in directory.iterdir())
    return max([time.time(), *(float(stamp[1]) + 1e-3 for stamp in found if stamp)])


def _scalar(tag: str, value: float) -> Summary.Value:
    return Summary.Value(
        tag=tag,
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars")),
        tensor=TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(), float_val=[value]),
    )


def _record(event) -> bytes:
    """Returns an event framed as in TFRecord files: length and content, each with its masked CRC-32C."""
    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    return length + _masked_crc(length) + content + _masked_crc(content)


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
