"""Checkpoints on gs://: what is deleted, what damage is, and what an outage leaves."""

import re

import pytest
from etils import epath

from pipeline.errors import MachineError
from pipeline.runtime.checkpoint_reading import read_variables
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.storage import failures, objects, storage_errors
from tests.runtime.test_checkpoints import restore, save, state_of
from tests.storage.faults import Fault


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(failures, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(storage_errors, "PAUSES_SECONDS", (0.0, 0.0))


@pytest.fixture
def folder(server, request):
    return epath.Path(f"gs://bucket/{re.sub(r'[^a-z_]', '-', request.node.name)}")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_old_ones_leave_no_object(folder):
    assert save(folder, *(state_of(step) for step in (1, 2, 3)), keep=1) == [3]
    found, _ = objects.entries(str(folder), recursive=True)
    assert {entry.location.removeprefix(f"{folder}/").split("/")[0] for entry in found} <= {"", "3"}


def test_the_bucket_itself_is_never_asked(folder, server):
    first = len(server.requests)
    save(folder, state_of(1), state_of(2), keep=1)
    restore(folder)
    assert not [request for request in server.requests[first:] if request.kind == "bucket"]


@pytest.mark.slow
def test_a_damaged_object_leads_to_the_one_before(folder, caplog):
    save(folder, state_of(1), state_of(2))
    found = [entry for entry in objects.entries(f"{folder}/2/state", recursive=True)[0] if "/d/" in entry.location]
    largest = max(found, key=lambda entry: entry.size)
    objects.write(largest.location, objects.read(largest.location)[: largest.size // 2])
    assert int(restore(folder)[0]["step"]) == 1
    assert f"{folder}/2 cannot be read" in caplog.text
    assert "2.damaged" in names(folder)
    assert save(folder, state_of(2)) == [1, 2]


def test_a_copy_from_a_disk_is_taken_and_a_save_that_was_cut_off_is_named(folder, tmp_path, caplog):
    save(tmp_path, state_of(5), state_of(6))
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        objects.write(f"{folder}/{path.relative_to(tmp_path)}", path.read_bytes())
    (folder / "6" / "commit_success.txt").unlink()
    assert int(restore(folder)[0]["step"]) == 5
    assert f"{folder}/6 has no commit_success.txt: it is a save that was cut off, and is not taken" in caplog.text
    assert save(folder, state_of(6)) == [5, 6]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["read", "list", "stat"])
def test_an_outage_while_reading_is_no_damage(kind, folder, server, monkeypatch):
    save(folder, state_of(1), state_of(2))
    before = names(folder)
    monkeypatch.setattr(failures, "PATIENCE_SECONDS", 0.2)
    server.fault = lambda request: Fault("503") if (request.client, request.kind) == ("python", kind) else None
    for read in (restore, lambda directory: read_variables(str(directory))):
        with pytest.raises(MachineError, match="The same command continues"):
            read(folder)
    server.fault = lambda request: None
    assert names(folder) == before
    assert int(restore(folder)[0]["step"]) == 2


def test_an_outage_while_saving_leaves_the_one_before(folder, server, monkeypatch):
    save(folder, state_of(1))
    monkeypatch.setattr(failures, "PATIENCE_SECONDS", 0.2)

    def save_during_outage():
        with Checkpoints(str(folder), keep=5) as checkpoints:
            server.fault = lambda request: (
                Fault("503") if (request.client, request.kind) == ("python", "write") else None
            )
            checkpoints.save(2, state_of(2), {})
            checkpoints.wait()

    with pytest.raises(MachineError, match="no answer for"):
        save_during_outage()
    server.fault = lambda request: None
    assert int(restore(folder)[0]["step"]) == 1
    assert save(folder, state_of(2)) == [1, 2]


@pytest.mark.slow
def test_the_best_of_steps_that_are_taken_back_are_forgotten(folder):
    save(folder, state_of(3), state_of(6))
    with Checkpoints(str(folder), keep=2) as best:
        best.forget_after(4)
        assert best.steps() == [3]
        assert best.save(6, state_of(7), {"text": "notes", "number": 7})
    assert [int(name) for name in names(folder)] == [3, 6]
    state, _ = read_variables(str(folder))
    assert state["step"] == 7  # of the new trajectory
