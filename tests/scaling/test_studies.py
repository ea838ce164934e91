"""Studies as users start them, with real trials of tiny networks: killed at random, diverging, on a full disk, on pods."""

import json
import os
import random
import shlex

import pytest
from etils import epath
from pod.starting import arguments as launcher_arguments

from pipeline.model.variants import ScaledVariant
from pipeline.trials import launching
from pipeline.trials.trials import Trial
from tests.configs import tiny  # noqa: F401 - it adds the networks that are studied
from tests.forks import ROOT, Fork
from tests.runs import COMPILE_FAST, wait_until
from tests.trainers import Trainers

STUDY = "tests/configs/scale_tiny.py"
KILLS = 10


def start(*arguments, before="", trainers=None, **environment):
    """Starts a study whose trials compile fast, in a process that was forked; its output is one text stream.

    With `trainers`, the trials are forked as well.
    """
    lines = [before, "from pipeline import command, scale"]
    if trainers is not None:
        lines += ["from pipeline.trials import running", f"running.TRAINER = {trainers.trial!r}"]
    lines += ["command.run(scale.main, structure=scale.scale)"]
    return Fork(
        ["-c", "\n".join(lines), *map(str, arguments)],
        {**os.environ, "XLA_FLAGS": COMPILE_FAST, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
    )


def finish(process):
    output, _ = process.communicate(timeout=1200)
    return process.returncode, output


@pytest.fixture(scope="module")
def trainers():
    made = Trainers()
    yield made
    made.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The prepared digits, for all studies of this module."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """The folder of a study that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("study") / "undisturbed"
    code, output = finish(start(f"--config={STUDY}", f"--workdir={workdir}", "--parallel=2", TFDS_DATA_DIR=str(data)))
    assert code == 0, output
    assert "Wrote maps.png, scaling.txt, scaling.png, scaling.json" in output
    return workdir


def starts_of(workdir):
    """How often each trial was started, by its log."""
    logs = (workdir / "trials").glob("*.log")
    return {log.stem: log.read_text().count("Opening digits") for log in logs}


def logged(workdir):
    """How many bytes the trials have printed."""
    return sum(log.stat().st_size for log in (workdir / "trials").glob("*.log"))


@pytest.mark.slow
def test_a_study_killed_ten_times_ends_as_an_undisturbed_one(undisturbed, trainers, data, tmp_path):
    """Kills when the trials have come a random bit further: as they start, compile, train or end."""
    rng, workdir = random.Random(0), tmp_path / "killed"
    arguments = (f"--config={STUDY}", f"--workdir={workdir}", "--parallel=2")
    for _ in range(KILLS):
        wanted = logged(workdir) + rng.randrange(1, 1500)
        process = start(*arguments, trainers=trainers, TFDS_DATA_DIR=str(data))
        assert wait_until(lambda wanted=wanted: logged(workdir) >= wanted, [process]), finish(process)
        process.kill()
        finish(process)
        wait_until(lambda: not trainers.running, [])  # the kernel ends the study's children a moment later
    code, output = finish(start(*arguments, trainers=trainers, TFDS_DATA_DIR=str(data)))
    assert code == 0, output
    assert (workdir / "scaling.json").read_bytes() == (undisturbed / "scaling.json").read_bytes()


@pytest.mark.slow
def test_the_findings_are_those_of_the_runs(undisturbed):
    findings = json.loads((undisturbed / "scaling.json").read_text())
    (found,) = findings["baselines"]
    rows = [found["baseline"], *found["search"]["candidates"], *found["comparison"]]
    for row in rows:
        trial = Trial(ScaledVariant.parse(row["variant"]), 0)
        results = json.loads((trial.workdir(epath.Path(undisturbed)) / "results.json").read_text())
        assert row["top1"] == [results["evaluation"]["ema"]["top1"]]
        assert results["config"]["image_size"] == trial.variant.resolution
    assert set(starts_of(undisturbed).values()) == {1}


@pytest.mark.slow
def test_trials_that_diverge_are_one_line(trainers, data, tmp_path):
    overrides = ("duration=6 steps", "virtual_devices=1", "schedule.lr_per_256=1e30", "schedule.warmup=0 steps")
    arguments = (f"--config={STUDY}", f"--workdir={tmp_path}/s", f"--config.overrides={overrides!r}")
    code, output = finish(start(*arguments, trainers=trainers, TFDS_DATA_DIR=str(data)))
    assert code == 70, output
    assert "Traceback" not in output
    assert output.splitlines()[-1].startswith(
        "Error: no candidate of tiny:resolution=16 could be trained; the first one: "
    )
    assert output.count("not finite") >= 3  # each was reported when it ended, and the next one began


@pytest.mark.parametrize("room", [64, 20_000])
def test_a_full_disk_is_one_line(data, tmp_path, room):
    """A limit of the size of files stands for the disk; it meets the study's own files, or those of a trial."""
    limited = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # otherwise it ends the process
resource.setrlimit(resource.RLIMIT_FSIZE, ({room},) * 2)"""
    process = start(f"--config={STUDY}", f"--workdir={tmp_path}/s", before=limited, TFDS_DATA_DIR=str(data))
    code, output = finish(process)
    assert code == 71, output
    assert "no room to write" in output.splitlines()[-1]
    assert output.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in output
    assert not (tmp_path / "s" / "scaling.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--config is missing: name a configuration file, such as --config configs/scale_fashion_mnist.py"),
        (("--config=configs/b0.py",), "--config does not fit configs/scale.py: "),
        (
            (f"--config={STUDY}", "--config.search.sep=1"),
            "did you mean --config.search.step? configs/scale.py has them all",
        ),
        ((f"--config={STUDY}", "--quick"), "--quick brings its own study: leave out --config"),
        ((f"--config={STUDY}", "--launch"), "--launch and a --workdir in a bucket"),
        ((f"--config={STUDY}", "--config.search.times=0.5"), "a budget of 0.5 times the baseline's cost is not above"),
    ],
)
def test_a_command_that_cannot_work_is_one_line(tmp_path, arguments, said):
    code, output = finish(start(*arguments, f"--workdir={tmp_path}/s"))
    assert code == 78, output
    assert said in output.splitlines()[-1]
    assert "Traceback" not in output
    assert not (tmp_path / "s").exists()


def test_the_launcher_reads_the_lines_of_its_trials(tmp_path):
    trials = [Trial(ScaledVariant("b0", 1.2, 1.1, 227), seed) for seed in (0, 1)]
    study = epath.Path("gs://bucket/studies/b0")
    lines = launching.lines(trials, study, "configs/b0.py", lambda _: ("duration=100 epochs",), "scale")
    names = set()
    for trial, line in zip(trials, lines):
        command, *arguments = shlex.split(line)
        assert command == "launch/tpu_pod.sh"
        read = launcher_arguments.parse(arguments, {}, tmp_path / "pod.env", ROOT, ROOT)
        assert (read.command, read.yes) == ("up", True)
        assert read.workdir == str(trial.workdir(study))
        assert read.overrides == [
            "--config.duration=100 epochs",
            f"--config.seed={trial.seed}",
            "--config.model.variant=b0:depth=1.2,width=1.1,resolution=227",
            "--config.image_size=227",
        ]
        names.add(read.name)
    assert len(names) == 2
