"""Searches as users start them: killed at random, with real trials of tiny networks, and with bad arguments."""

import json
import os
import random

import pytest

from configs import scale_digits
from pipeline.model.scaling import architecture
from pipeline.scaling.study import Study
from tests.configs import tiny  # noqa: F401 - it adds the networks that are searched
from tests.forks import Fork
from tests.runs import COMPILE_FAST, wait_until
from tests.trainers import Trainers

SEARCH = "tests/configs/search_tiny.py"
STUB = ("tests/search/stub_trainer.py",)  # ends at once, with an accuracy that the network decides
KILLS = 10


def start(*arguments, trainer=None, **environment):
    """Starts a search in a process that was forked; its output is one text stream."""
    lines = ["from pipeline import command", "from pipeline.search import __main__ as search"]
    if trainer:
        lines += ["from pipeline.trials import running", f"running.TRAINER = {trainer!r}"]
    lines += ["command.run(search.main, structure=search.search)"]
    return Fork(
        ["-c", "\n".join(lines), *map(str, arguments)],
        {**os.environ, "XLA_FLAGS": COMPILE_FAST, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
    )


def finish(process):
    output, _ = process.communicate(timeout=1200)
    return process.returncode, output


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The prepared digits, for all searches of this module."""
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trainers():
    made = Trainers()
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """The folder of a search that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("search") / "undisturbed"
    arguments = (f"--config={SEARCH}", f"--workdir={workdir}", "--parallel=2")
    code, output = finish(start(*arguments, trainer=STUB, TFDS_DATA_DIR=data))
    assert code == 0, output
    assert "Wrote winner.json, search.txt, search.png, search.json" in output
    return workdir


def starts_of(workdir):
    """How often each trial was started."""
    return {path.parent: len(path.read_text().splitlines()) for path in workdir.glob("*/*/starts")}


def test_a_search_killed_ten_times_ends_as_an_undisturbed_one(undisturbed, data, tmp_path):
    rng, workdir = random.Random(0), tmp_path / "killed"
    arguments = (f"--config={SEARCH}", f"--workdir={workdir}", "--parallel=3")
    whole = sum(starts_of(undisturbed).values())
    for _ in range(KILLS):
        begun = sum(starts_of(workdir).values())
        wanted = begun + rng.randrange(1, whole // KILLS)
        process = start(*arguments, trainer=STUB, TFDS_DATA_DIR=data)
        assert wait_until(lambda wanted=wanted: sum(starts_of(workdir).values()) >= wanted, [process]), finish(process)
        process.kill()
        finish(process)
        assert not (workdir / "winner.json").exists()
    code, output = finish(start(*arguments, trainer=STUB, TFDS_DATA_DIR=data))
    assert code == 0, output
    for name in ("search.json", "search.txt", "winner.json"):
        assert (workdir / name).read_bytes() == (undisturbed / name).read_bytes()


def test_every_trial_of_an_undisturbed_search_is_started_once(undisturbed):
    assert set(starts_of(undisturbed).values()) == {1}
    findings = json.loads((undisturbed / "search.json").read_text())
    proposed = {row["network"] for course in findings["searches"] for row in course["trials"]}
    assert len(list(undisturbed.glob("trials/*/starts"))) == len(proposed)


def test_what_was_found_is_scaled_by_a_study_of_scaling(undisturbed):
    findings, path = json.loads((undisturbed / "search.json").read_text()), undisturbed / "winner.json"
    assert architecture(str(path)).blocks == architecture(findings["winner"]).blocks
    config = scale_digits.get_config()
    config.train, config.overrides, config.baselines = "tests/configs/tiny.py", (), (str(path),)
    study = Study.from_config(config, "macs")
    assert list(map(str, study.baselines)) == [findings["winner"]]


def test_another_search_in_the_same_folder_is_refused(undisturbed, data):
    arguments = (f"--config={SEARCH}", f"--workdir={undisturbed}", "--config.trials=13")
    code, output = finish(start(*arguments, trainer=STUB, TFDS_DATA_DIR=data))
    assert code == 78
    assert "holds another study; it differs in search.trials (12, not 13)" in output.splitlines()[-1]


@pytest.mark.slow
def test_the_findings_are_those_of_real_runs(trainers, data, tmp_path):
    workdir = tmp_path / "real"
    few = ("trials=2", "algorithms=('evolution',)", "seeds=(0,)", "full.predicted=0", "full.best=1", "full.seeds=1")
    arguments = (f"--config={SEARCH}", f"--workdir={workdir}", *(f"--config.{each}" for each in few))
    code, output = finish(start(*arguments, trainer=trainers.trial, TFDS_DATA_DIR=data))
    assert code == 0, output
    findings = json.loads((workdir / "search.json").read_text())
    networks = {}
    for path in workdir.glob("*/*/results.json"):
        content = json.loads(path.read_text())
        networks[path.parent.parent.name, content["config"]["model"]["variant"]] = content
    for row in findings["searches"][0]["trials"]:
        content = networks["trials", row["network"]]
        assert row["top1"] == content["evaluation"]["ema"]["top1"]
        assert content["config"]["data"]["eval_split"] == "train[80%:]"
        assert content["step"] == 4
    for row in findings["final"]:
        content = networks["final", row["network"]]
        assert list(row["top1"].values()) == [content["evaluation"]["ema"]["top1"]]
        assert content["config"]["data"]["eval_split"] == "test"
        assert content["step"] == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--config is missing: name a configuration file, such as --config configs/search_fashion_mnist.py"),
        (("--config=configs/b0.py",), "--config does not fit configs/search.py: "),
        ((f"--config={SEARCH}", "--config.trails=1"), "did you mean --config.trials? configs/search.py has them all"),
        ((f"--config={SEARCH}", "--quick"), "--quick brings its own study: leave out --config"),
        ((f"--config={SEARCH}", "--launch"), "--launch and a --workdir in a bucket"),
        ((f"--config={SEARCH}", "--gpus=0,1"), "--gpus names 2, and --parallel=1 trials run at a time"),
        ((f"--config={SEARCH}", "--config.space.kernels=()"), "config.space.kernels is empty"),
        ((f"--config={SEARCH}", "--config.trials=0"), "config.trials is 0; expected 1 or more"),
    ],
)
def test_a_command_that_cannot_work_is_one_line(tmp_path, arguments, said):
    code, output = finish(start(*arguments, f"--workdir={tmp_path}/s"))
    assert code == 78, output
    assert said in output.splitlines()[-1]
    assert "Traceback" not in output
    assert not (tmp_path / "s").exists()
