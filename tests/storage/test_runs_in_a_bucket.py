"""Whole runs on gs:// alone: prepared, trained by two processes, killed, continued, evaluated, exported, used."""

import json
import os
import random
import signal

import cv2
import jax
import numpy as np
import pytest
from etils import epath

from pipeline.data.preparation.datasets import prepare_digits
from pipeline.reporting.reporter import read_events
from tests import forks
from tests.runs import TINIEST, finish, start_all, state_at, wait_for
from tests.storage.faults import SeededFaults

KILLS = int(os.environ.get("STORAGE_KILLS", "2"))
STEPS = 12 * KILLS  # so many that there is a run left to kill
RUN = (
    f"--config={TINIEST}",
    f"--config.duration={STEPS} steps",
    "--config.log.every=1 steps",
    "--config.checkpoint.every=4 steps",
    "--config.evaluation.every=12 steps",
    "--config.data.workers=0",
)
INSTEAD_OF_TENSORFLOW = """
import pathlib, traceback
(pathlib.Path(__file__).parent.parent / "imported").write_text("".join(traceback.format_stack()))
raise ImportError("TensorFlow is not wanted here")
"""
KNOWS_TINY = (
    "import runpy, sys, tests.configs.tiny; sys.argv[:] = sys.argv[1:]; runpy.run_module(sys.argv[0], None, '__main__')"
)
SAME = ("records", "loss", "accuracy", "gradient_norm", "learning_rate")


@pytest.fixture(scope="module", autouse=True)
def _no_tensorflow(tmp_path_factory):
    """Puts a package in TensorFlow's place that writes down who imports it, for all processes that are started."""
    folder = tmp_path_factory.mktemp("instead")
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(INSTEAD_OF_TENSORFLOW)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([before] if before else [])])
    yield
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    assert not (folder / "imported").exists(), (folder / "imported").read_text()


def train(workdir, data_dir, *arguments):
    return start_all([workdir] * 2, *RUN, f"--config.data.data_dir={data_dir}", *arguments, devices=1)


def command(name, *arguments, code=0):
    result = forks.run("-c", KNOWS_TINY, f"pipeline.{name}", *map(str, arguments))
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout


def reports(workdir):
    events = [event for event in read_events(str(workdir)) if event["event"] == "train"]
    assert [event["step"] for event in events] == list(range(1, STEPS + 1))
    return [[event[key] for key in SAME] for event in events]


def assert_same_run(workdir, reference):
    jax.tree.map(np.testing.assert_array_equal, state_at(workdir, STEPS), state_at(reference, STEPS))
    assert reports(workdir) == reports(reference)
    assert (
        json.loads((workdir / "results.json").read_text())["evaluation"]
        == (json.loads((reference / "results.json").read_text())["evaluation"])
    )


@pytest.fixture(scope="module")
def local_run(tmp_path_factory):
    """The same run on the local disk."""
    folder = tmp_path_factory.mktemp("local")
    prepare_digits(str(folder / "data"))
    codes, outputs = finish(train(folder / "run", folder / "data"))
    assert codes == [0, 0], "\n".join(outputs)
    return folder / "run"


@pytest.fixture(scope="module")
def data_dir(running_server):
    command("prepare", "--dataset=digits", "--data_dir=gs://bucket/data")
    return "gs://bucket/data"


@pytest.fixture(scope="module")
def run(data_dir):
    """A run of two processes on gs:// alone that was killed once and continued from copied data."""
    workdir = epath.Path("gs://bucket/runs/digits")
    processes = train(workdir, data_dir)
    wait_for(processes[0], f"step 10/{STEPS}")
    for process in processes:
        process.kill()
    finish(processes)
    codes, outputs = finish(train(workdir, data_dir, "--config.data.stage=disk"))
    assert codes == [0, 0], "\n".join(outputs)
    assert "Continuing after step " in outputs[0]
    return workdir


@pytest.mark.slow
def test_training_on_gs_equals_the_local_disk(run, local_run):
    assert_same_run(run, local_run)
    kept = [int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal()]
    assert sorted(kept) == [STEPS - 4, STEPS]


@pytest.mark.slow
def test_what_comes_after_a_run_works_on_gs_alone(run, data_dir):
    command(
        *("evaluate", f"--workdir={run}", f"--config={TINIEST}", f"--config.data.data_dir={data_dir}"),
        "--out=gs://bucket/evaluated",
    )
    results = json.loads((run / "results.json").read_text())
    evaluated = json.loads(epath.Path("gs://bucket/evaluated/evaluation.json").read_text())
    assert evaluated["evaluation"]["ema"]["top1"] == results["evaluation"]["ema"]["top1"]

    command("export", f"--workdir={run}", "--format=weights", "--out=gs://bucket/exported")
    image = cv2.imencode(".png", np.full((8, 8, 3), 128, np.uint8))[1].tobytes()
    epath.Path("gs://bucket/image.png").write_bytes(image)
    said = [
        command("predict", place, "gs://bucket/image.png", "--json")
        for place in (f"--workdir={run}", "--weights=gs://bucket/exported/weights")
    ]
    assert json.loads(said[0]) == json.loads(said[1])


@pytest.mark.slow
def test_kills_and_faults_change_nothing(server, data_dir, local_run):
    """Kills and faults at random places, of two processes that train; STORAGE_KILLS=20 makes it 20 and 200."""
    workdir, rng = epath.Path("gs://bucket/runs/hurt"), random.Random(7)
    faults = SeededFaults(8, {"python": 0.05, "tensorstore": 0.02, "array_record": 0.01}, 200)
    server.fault = faults.next
    for kill in range(KILLS):
        processes = train(workdir, data_dir)
        wait_for(processes[0], "Compiled")
        for _ in range(rng.randrange(10)):
            wait_for(processes[0], "step")
        for process in processes:
            process.send_signal((signal.SIGKILL, signal.SIGTERM)[kill % 2])
        codes, outputs = finish(processes)
        assert set(codes) <= {0, 75, -signal.SIGKILL}, "\n".join(outputs)
    codes, outputs = finish(train(workdir, data_dir))
    assert codes == [0, 0], "\n".join(outputs)
    assert_same_run(workdir, local_run)
    assert not [path.name for path in (workdir / "checkpoints").iterdir() if "damaged" in path.name]
    assert faults.made.total() >= 10 * KILLS
