"""A run's record on gs://: it grows by pieces, reads as one file, and two writers of it notice each other."""

import json
import types

import pytest
from etils import epath

from pipeline.errors import ConfigError
from pipeline.reporting.goodput import Goodput
from pipeline.reporting.growing_files import GrowingFile
from pipeline.reporting.reporter import Reporter, read_events
from pipeline.storage import failures
from tests.storage.faults import Fault
from tests.test_train import shown

NUMBERS = types.SimpleNamespace(total_steps=100, steps_per_epoch=10, batch_size=8)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(failures, "_FIRST_PAUSE_SECONDS", 0.01)


def report(workdir, start, end):
    with Reporter(workdir, NUMBERS, start, Goodput({}), tensorboard=True) as reporter:
        for step in range(start + 1, end + 1):
            reporter.record("train", step, {"loss": 1 / step})
            reporter.wait()


@pytest.mark.slow
def test_a_report_costs_the_same_number_of_bytes_and_requests_however_long_the_run(server):
    costs = []
    with Reporter("gs://bucket/long", NUMBERS, 0, Goodput({}), tensorboard=True) as reporter:
        for step in range(1, 41):
            first = len(server.requests)
            reporter.record("train", step, {"loss": 0.5})
            reporter.wait()
            requests = server.requests[first:]
            costs.append((len(requests), sum(request.bytes for request in requests)))
    assert {number for number, _ in costs[2:]} == {
        8
    }  # look, piece, compose, delete; of the record and of TensorBoard's file
    assert max(sent for _, sent in costs) < 3_000


def test_the_record_reads_as_one_file_also_after_restarts(server, tmp_path):
    report("gs://bucket/again", 0, 6)
    report("gs://bucket/again", 4, 9)  # from the checkpoint of step 4
    assert [event["step"] for event in read_events("gs://bucket/again")] == list(range(1, 10))
    text = epath.Path("gs://bucket/again/metrics.jsonl").read_text()
    assert [json.loads(line)["step"] for line in text.splitlines()] == list(range(1, 10))
    (tmp_path / "tensorboard").mkdir()
    for path in epath.Path("gs://bucket/again/tensorboard").iterdir():
        (tmp_path / "tensorboard" / path.name).write_bytes(path.read_bytes())
    assert shown(tmp_path, "train/loss") == pytest.approx({step: 1 / step for step in range(1, 10)})


def test_what_is_reported_while_storage_is_away_comes_later_in_one_piece(server):
    file = GrowingFile(epath.Path("gs://bucket/later"))
    file.append(b"1\n")
    file.wait()
    away = [True]
    server.fault = lambda request: Fault("503") if away else None
    first = len(server.requests)
    for number in range(2, 30):
        file.append(f"{number}\n".encode())  # does not wait
    away.clear()
    file.close()
    assert epath.Path("gs://bucket/later").read_text().split() == [str(number) for number in range(1, 30)]
    assert len([request for request in server.requests[first:] if request.kind == "compose"]) <= 2


def test_two_runs_in_one_folder_are_told_apart(server):
    file = GrowingFile(epath.Path("gs://bucket/mine"))
    file.append(b"1\n")
    file.wait()

    def meanwhile(request):
        if request.kind == "compose":
            server._ask("POST", "/upload/storage/v1/b/bucket/o?uploadType=media&name=mine", b"of another run\n")

    server.fault = meanwhile
    file.append(b"2\n")
    with pytest.raises(ConfigError, match="gs://bucket/mine was written by another process meanwhile: two runs"):
        file.close()
