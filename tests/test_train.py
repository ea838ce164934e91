"""The train command as a user meets it: whole runs in processes of their own, interruptions, and every wrong input."""

import json
import math
import shutil
import signal

import cv2
import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from pipeline.data.preparation.datasets import prepare_digits
from pipeline.reporting.reporter import read_events
from tests.runs import TINIEST, reported, run, start, state_at, wait_for


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare_digits(str(directory))
    return directory


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_dir):
    """The work directory and the output of an undisturbed run."""
    workdir = tmp_path_factory.mktemp("finished")
    arguments = (f"--config={TINIEST}", f"--workdir={workdir}", f"--config.data.data_dir={data_dir}")
    status, output = run(*arguments, "--config.log.norms=True")
    assert status == 0, output
    return workdir, output


def test_a_run_reports_each_step_once_and_counts_every_test_example(finished):
    workdir, output = finished
    events = read_events(str(workdir))
    assert [event["step"] for event in events if event["event"] == "train"] == [3, 6, 9, 12]
    evaluations = [event for event in events if event["event"] == "evaluation"]
    assert [event["step"] for event in evaluations] == [6, 12]
    assert {event[f"{weights}_examples"] for event in evaluations for weights in ("ema", "raw")} == {360}
    results = json.loads((workdir / "results.json").read_text())
    assert results["step"] == 12
    assert results["evaluation"]["ema"]["top1"] == evaluations[-1]["ema_top1"]
    assert f"{results['evaluation']['ema']['top1']:.2%} top-1" in output


def test_the_reported_learning_rate_is_that_of_the_step(finished):
    """By hand: the third update is number 2, after a warm-up of 2, of a cosine over 12 from 0.016 * 32 / 256."""
    workdir, _ = finished
    rates = reported(workdir, "train", "learning_rate")
    assert rates[3] == pytest.approx(0.001 * (1 + math.cos(math.pi * 2 / 12)))
    assert rates[12] == pytest.approx(0.001 * (1 + math.cos(math.pi * 11 / 12)), rel=1e-4)


def test_the_reported_norm_is_that_of_the_saved_parameters(finished):
    workdir, _ = finished
    saved = jax.tree.leaves(state_at(workdir, 12)["params"])
    norms = reported(workdir, "train", "l2_params")
    assert norms[12] == pytest.approx(math.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in saved)))
    assert all(0 < update < 0.1 * norms[step] for step, update in reported(workdir, "train", "l2_updates").items())


def shown(workdir, tag):
    """Returns what TensorBoard shows under a tag, by steps; fails when it shows a step twice."""
    board = EventAccumulator(str(workdir / "tensorboard"))
    board.Reload()
    points = [(point.step, float(make_ndarray(point.tensor_proto))) for point in board.Tensors(tag)]
    assert len(points) == len(dict(points)), points
    return dict(points)


def test_tensorboard_shows_the_numbers_of_the_record(finished):
    workdir, _ = finished
    for name in ("loss", "l2_params", "l2_updates"):
        assert shown(workdir, f"train/{name}") == pytest.approx(reported(workdir, "train", name))


def test_images_of_the_run_can_be_looked_at(finished):
    workdir, _ = finished
    preview = cv2.imread(str(workdir / "input_preview.png"))
    assert preview is not None
    assert len(np.unique(preview)) > 16  # digits on a frame, not one colour
    assert cv2.imread(str(workdir / "curves.png")) is not None


def test_a_finished_run_is_not_trained_again(finished):
    workdir, _ = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    status, output = run(f"--config={TINIEST}", f"--workdir={workdir}", f"--config.data.data_dir={workdir / 'none'}")
    assert status == 0, output
    assert "finished" in output
    assert "Compil" not in output
    assert (workdir / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.seed=7"], "config.seed: 0 became 7"),
        (
            ["--config.duration=8 steps", "--config.resume_changed=True"],
            "a checkpoint of step 12, but config.duration='8 steps'",
        ),
    ],
)
def test_a_finished_run_of_another_configuration_is_refused(finished, data_dir, arguments, message):
    workdir, _ = finished
    status, output = run(
        f"--config={TINIEST}", f"--workdir={workdir}", f"--config.data.data_dir={data_dir}", *arguments
    )
    assert status == 78, output
    assert message in output.splitlines()[-1]


def test_a_killed_and_an_interrupted_run_end_with_the_bits_of_an_undisturbed_one(finished, tmp_path, data_dir):
    arguments = (f"--config={TINIEST}", f"--workdir={tmp_path}", f"--config.data.data_dir={data_dir}")
    arguments += ("--config.log.norms=True",)
    process = start(*arguments)
    wait_for(process, "step  9/12")  # by then the checkpoint of step 4 is complete
    process.kill()
    process.communicate()
    process = start(*arguments)
    wait_for(process, "Continuing after step")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    if process.returncode != 0:  # else it was done before the signal was seen
        assert process.returncode == 75, output
        assert "the same command continues" in output
        status, output = run(*arguments)
        assert status == 0, output
        assert "Continuing after step" in output
    undisturbed, _ = finished
    jax.tree.map(np.testing.assert_array_equal, state_at(tmp_path, 12), state_at(undisturbed, 12))
    for event, key in (
        *(("train", "loss"), ("train", "records"), ("train", "l2_params"), ("train", "l2_updates")),
        *(("evaluation", "ema_loss"), ("evaluation", "raw_top1")),
    ):
        assert reported(tmp_path, event, key) == reported(undisturbed, event, key)
    for event, key in (("train", "loss"), ("evaluation", "ema_loss")):
        assert shown(tmp_path, f"{event}/{key}") == pytest.approx(reported(tmp_path, event, key))


def test_best_is_of_the_trajectory_that_the_record_tells(finished, tmp_path, data_dir):
    """A run that goes on from other weights than before, as on another slice, and evaluates steps that it had evaluated."""
    other, workdir = tmp_path / "other", tmp_path / "run"
    arguments = (f"--config={TINIEST}", f"--config.data.data_dir={data_dir}", "--config.log.tensorboard=False")
    status, output = run(*arguments, f"--workdir={other}", "--config.seed=1", "--config.duration=8 steps")
    assert status == 0, output
    shutil.copytree(finished[0], workdir)
    (workdir / "results.json").unlink()
    shutil.rmtree(workdir / "checkpoints" / "12")
    shutil.rmtree(workdir / "checkpoints" / "8" / "state")
    shutil.copytree(other / "checkpoints" / "8" / "state", workdir / "checkpoints" / "8" / "state")
    status, output = run(*arguments, f"--workdir={workdir}")
    assert status == 0, output
    top1 = reported(workdir, "evaluation", "ema_top1")
    best = 12 if top1[12] > top1[6] else 6
    assert max(int(path.name) for path in (workdir / "best").iterdir()) == best
    source, step = (workdir, 12) if best == 12 else (finished[0], 6)
    kept = state_at(workdir, best, "best")
    assert int(kept["step"]) == step
    if best == 12:
        jax.tree.map(np.testing.assert_array_equal, kept["params"], state_at(source, step)["params"])


def test_an_evaluation_does_not_keep_a_run_that_is_to_stop(tmp_path, data_dir):
    arguments = (
        *(f"--config={TINIEST}", f"--workdir={tmp_path}", f"--config.data.data_dir={data_dir}"),
        *("--config.duration=2 steps", "--config.schedule.warmup=0 steps", "--config.log.tensorboard=False"),
        f"--config.data.eval_split={'+'.join(['train'] * 8)}",
    )
    process = start(*arguments, "--config.evaluation.batch_size=4")
    wait_for(process, "Evaluating after step 2")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    assert "step 2 is saved" in output
    assert reported(tmp_path, "evaluation", "ema_top1") == {}
    status, output = run(*arguments)
    assert status == 0, output
    assert reported(tmp_path, "evaluation", "ema_examples") == {2: 8 * 1437}


@pytest.mark.parametrize("first", ["log", "checkpoint", "evaluation"])
def test_a_loss_that_is_not_finite_stops_the_run_and_is_never_saved(first, tmp_path, data_dir):
    """Whatever comes first after it: a report, a checkpoint, or the best state so far."""
    status, output = run(
        f"--config={TINIEST}",
        f"--workdir={tmp_path}",
        f"--config.data.data_dir={data_dir}",
        "--config.schedule.lr_per_256=1e30",
        "--config.log.tensorboard=False",
        *(f"--config.{what}.every={3 if what == first else 12} steps" for what in ("log", "checkpoint", "evaluation")),
    )
    assert status == 70, output
    assert "is not finite" in output.splitlines()[-1]
    for kind in ("checkpoints", "best"):
        for checkpoint in (tmp_path / kind).glob("[0-9]*"):
            state = state_at(tmp_path, int(checkpoint.name), kind)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state["params"])), checkpoint


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--workdir={tmp}"], 78, "--config is missing"),
        (["--config=" + TINIEST], 78, "--workdir is missing"),
        (["--config=no/such.py", "--workdir={tmp}"], 78, "no/such.py"),
        (["--config=README.md", "--workdir={tmp}"], 78, "README.md"),
        (["--config=pipeline/errors.py", "--workdir={tmp}"], 78, "get_config"),
        (["--config=" + TINIEST, "--workdir={tmp}", "--config.batchsize=1"], 78, "mean --config.batch_size?"),
        (
            ["--config=" + TINIEST, "--workdir={tmp}", "--config.model.x.y=1"],
            78,
            "--config.model.x.y: there is no such key",
        ),
        (["--config=" + TINIEST, "--workdir={tmp}", "--config.data.crop_area[0]=1"], 78, "crop_area[0]"),
        (["--config=" + TINIEST, "--workdir={tmp}", "--config.batch_size=many"], 78, "batch_size"),
        (["--config=" + TINIEST, "--workdir={tmp}", "--config.batch_size=0"], 78, "config.batch_size is 0"),
        (["--config=" + TINIEST, "--workdir={tmp}", "--config.batch_size=30"], 78, "4 devices"),
        (["--config=" + TINIEST, "--workdir={tmp}", "--config.duration=0 epochs"], 78, "config.duration='0 epochs'"),
        (["--config=" + TINIEST, "--workdir={tmp}", "--config.seed=-1"], 78, "config.seed is -1"),
        (
            ["--config=" + TINIEST, "--workdir={tmp}", "--config.data.mean_rgb=(1.0,2.0)"],
            78,
            "config.data.mean_rgb is (1.0, 2.0)",
        ),
        (
            ["--config=" + TINIEST, "--workdir={tmp}", "--config.duration=2 steps"],
            78,
            "config.schedule.warmup='2 steps'",
        ),
        (["--config=" + TINIEST, "--workdir={tmp}", "--config.data.name=nothing"], 65, "pipeline.prepare"),
        (["--config=" + TINIEST, "--workdir=/proc/nothing"], 78, "--workdir=/proc/nothing"),
        (["--config=" + TINIEST, "--workdir={tmp}", "--config.platform=tpu"], 71, "config.platform='tpu'"),
        (["--config=" + TINIEST, "--workdir={tmp}", "and", "more"], 78, "unexpected argument 'and'"),
    ],
)
def test_wrong_input_is_one_clear_error(arguments, code, message, tmp_path, data_dir):
    status, output = run(
        *(argument.format(tmp=tmp_path) for argument in arguments),
        *([] if arguments == ["--workdir={tmp}"] else [f"--config.data.data_dir={data_dir}"]),
    )
    errors = [line for line in output.splitlines() if line.startswith("Error:")]
    assert status == code, output
    assert len(errors) == 1, output
    assert message in errors[0]
    assert "Traceback" not in output


def test_a_missing_configuration_without_overrides_is_one_clear_error(tmp_path):
    """Only an override looks into the configuration while the flags are parsed."""
    status, output = run("--config=no/such.py", f"--workdir={tmp_path}")
    assert status == 78
    assert output.splitlines()[-1].startswith("Error: --config: ")
    assert output.splitlines()[-1].endswith("No such file or directory: 'no/such.py'")
