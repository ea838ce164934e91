"""Twenty kills and two hundred faults at random places of a run on gs://, by a fixed seed: nothing is lost or doubled."""

import multiprocessing
import random
import signal

import jax
import numpy as np
import pytest
from etils import epath

from pipeline.data.preparation.datasets import prepare_digits
from pipeline.reporting.reporter import read_events
from pipeline.storage import objects
from tests.runs import state_at
from tests.storage import small_run
from tests.storage.faults import SeededFaults
from tests.test_train import shown

STEPS = 120
KILLS = 20
FAULTS = 200
SHARES = {"python": 0.06, "tensorstore": 0.08, "array_record": 0.02}  # tensorstore sends fewest, and is to be met too


@pytest.fixture(scope="module")
def local_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepare_digits(str(folder))
    return folder


@pytest.fixture(scope="module")
def data_dir(running_server, local_dir):
    for path in sorted(path for path in local_dir.rglob("*") if path.is_file()):
        objects.write(f"gs://bucket/kills/{path.relative_to(local_dir)}", path.read_bytes())
    return "gs://bucket/kills"


class Life:
    """One start of the run, forked from a process that has imported everything: twenty imports would take two minutes."""

    def __init__(self, workdir, data_dir):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.storage.small_run"])
        self._told, told = context.Pipe(duplex=False)
        self._process = context.Process(target=small_run.run, args=(str(workdir), str(data_dir), STEPS, told))
        self._process.start()
        told.close()

    def reach(self, steps: int) -> None:
        """Waits until it has taken so many steps."""
        for _ in range(steps):
            self._told.recv()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        assert self._process.exitcode == -signal.SIGKILL

    def end(self) -> None:
        while self._told.recv() != "done":
            pass
        self._process.join()
        assert self._process.exitcode == 0


def steps_of(workdir, event):
    return [entry["step"] for entry in read_events(str(workdir)) if entry["event"] == event]


@pytest.mark.slow
def test_twenty_kills_and_two_hundred_faults_change_nothing(server, data_dir, local_dir, tmp_path):
    Life(tmp_path / "run", local_dir).end()
    workdir, rng = epath.Path("gs://bucket/run"), random.Random(11)
    faults = SeededFaults(12, SHARES, FAULTS)
    server.fault = faults.next
    for _ in range(KILLS):
        life = Life(workdir, data_dir)
        life.reach(rng.randrange(14))
        life.kill()
    Life(workdir, data_dir).end()
    assert faults.made.total() == FAULTS
    assert len({kind for _, kind in faults.made}) == len(SeededFaults.KINDS)
    assert {client for client, _ in faults.made} == set(SHARES)

    jax.tree.map(np.testing.assert_array_equal, state_at(workdir, STEPS), state_at(tmp_path / "run", STEPS))
    for event in ("train", "evaluation"):
        assert steps_of(workdir, event) == steps_of(tmp_path / "run", event)
    assert steps_of(workdir, "train") == list(range(1, STEPS + 1))
    kept = [sorted(path.name for path in (place / "checkpoints").iterdir()) for place in (workdir, tmp_path / "run")]
    assert not [name for name in kept[0] if "damaged" in name]
    assert set(kept[1]) <= set(kept[0])
    for place in (workdir, tmp_path / "run"):
        assert sorted(path.name for path in (place / "best").iterdir()) == ["110", "120"]
    (tmp_path / "board" / "tensorboard").mkdir(parents=True)
    for path in (workdir / "tensorboard").iterdir():
        (tmp_path / "board" / "tensorboard" / path.name).write_bytes(path.read_bytes())
    assert list(shown(tmp_path / "board", "train/records")) == list(range(1, STEPS + 1))
