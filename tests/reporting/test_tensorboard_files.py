"""TensorBoard's own reader on the files of several starts."""

import time

from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from pipeline.reporting.tensorboard import TensorBoard


def test_a_clock_that_was_put_back_loses_no_point(tmp_path, monkeypatch):
    for now, start in [(1_800_000_000.0, 0), (1_799_996_400.0, 2), (1_799_996_401.0, 3)]:
        monkeypatch.setattr(time, "time", lambda now=now: now)
        board = TensorBoard(str(tmp_path), start)
        for step in range(start + 1, start + 4):
            board.write(step, {"value": float(start)})
        board.close()
    reader = EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    points = [(point.step, point.tensor_proto.float_val[0]) for point in reader.Tensors("value")]
    assert points == [(1, 0.0), (2, 0.0), (3, 2.0), (4, 3.0), (5, 3.0), (6, 3.0)]
