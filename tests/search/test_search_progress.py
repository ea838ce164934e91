"""A search with trials that end at once: what is trained and when, what is recorded, and what is compared at last."""

import json
import pathlib
import shlex
import sys

import pytest
from etils import epath
from pod.starting import arguments as launcher_arguments

from configs import search_digits
from pipeline.data.preparation.datasets import ensure_digits
from pipeline.data.sources import open_source
from pipeline.errors import ConfigError, DataError, TrainingError
from pipeline.model.scaling_search import identity, multiply_adds
from pipeline.search import record, report
from pipeline.search.judging import Judge
from pipeline.search.known import Known
from pipeline.search.progress import Search
from pipeline.search.record import Record
from pipeline.search.study import FINAL, FULL, PROXY, Study
from pipeline.trials import launching
from pipeline.trials.trials import write_failure
from tests.runs import ROOT

CLASSES = 10
STUB = pathlib.Path(__file__).with_name("stub_trainer.py")


def study_of(**changes):
    config = search_digits.get_config()
    config.trials, config.seeds = 12, (0, 1)
    config.evolution.population = 4
    config.full.predicted, config.full.best = 4, 2
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return Study.from_config(config, "macs")


def search_in(study, workdir):
    found = Record.read(workdir, study.train_config.seed)
    judge = Judge.of(study.config, study.space.baseline, multiply_adds(CLASSES), CLASSES, counted=True)
    state = Search(study, judge, Known(found, workdir))
    state.advance()
    for course in state.courses:
        found.check(course.algorithm, course.seed, list(map(str, course.proposed)))
    return state


def train(trial, study, workdir, fails=()):
    """Lets the stub train a trial here, in this process."""
    arguments = ["", f"--workdir={trial.workdir(workdir)}", *trial.overrides(study.overrides(trial))]
    if str(trial.variant) in fails:
        write_failure(trial, workdir, "the loss is nan at step 3")
        return
    scope = {"__name__": "__main__"}
    before, sys.argv = sys.argv, arguments
    try:
        exec(STUB.read_text(), scope)
    except SystemExit:
        write_failure(trial, workdir, "the loss is nan at step 3")
    finally:
        sys.argv = before


def finish(study, workdir, **options):
    """Trains to the end and returns the findings, and the trials in the order of their starts."""
    workdir = epath.Path(workdir)
    state, trained = search_in(study, workdir), []
    while (trial := state.take()) is not None:
        trained.append(trial)
        train(trial, study, workdir, **options)
        record.write(state.findings(), workdir)
    return state.findings(), trained


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("search")
    study = study_of()
    return study, workdir, *finish(study, workdir)


def test_equal_networks_are_trained_once_in_each_group(finished):
    _, _, findings, trained = finished
    assert len(set(trained)) == len(trained)
    keys = [(trial.group, identity(trial.variant), trial.seed) for trial in trained]
    assert len(set(keys)) == len(keys)
    assert [(course["algorithm"], course["seed"]) for course in findings["searches"]] == [
        (name, seed) for name in ("evolution", "random") for seed in (0, 1)
    ]
    assert all(len(course["trials"]) == 12 for course in findings["searches"])
    assert findings["finished"]


def test_trials_never_see_the_test_split_and_the_final_ones_do(finished):
    study, _, _, trained = finished
    for trial in trained:
        overrides = dict(override.split("=", 1) for override in study.overrides(trial))
        if trial.group == FINAL:
            assert "data.train_split" not in overrides
            assert overrides["duration"] == "25 epochs"
        else:
            assert (overrides["data.train_split"], overrides["data.eval_split"]) == ("train[:80%]", "train[80%:]")
            assert overrides["duration"] == ("10 epochs" if trial.group == PROXY else "25 epochs")
    groups = [trial.group for trial in trained]
    assert groups == sorted(groups, key=[PROXY, FULL, FINAL].index)  # the test comes last
    assert (study.train_config.data.train_split, study.train_config.data.eval_split) == ("train[:80%]", "train[80%:]")


def test_the_best_are_those_of_the_rewards(finished):
    study, _, findings, _ = finished
    target = multiply_adds(CLASSES)(study.space.baseline)
    rows = [row for course in findings["searches"] for row in course["trials"]]
    for row in rows:
        expected = 0 if row["top1"] is None else row["top1"] * (row["cost"] / target) ** -0.07
        assert row["reward"] == pytest.approx(expected)
        assert row["cost"] <= 2 * target
    best = sorted({row["network"]: row["reward"] for row in rows}.items(), key=lambda item: -item[1])[:2]
    final = [row["network"] for row in findings["final"] if not row["by_hand"]]
    assert final == [network for network, _ in best]
    (hand,) = [row for row in findings["final"] if row["by_hand"]]
    winner = findings["final"][0]
    assert hand["macs"] == pytest.approx(winner["macs"], rel=0.08)  # so small a network has few widths
    assert any(row["problem"] == "the loss is nan at step 3" for row in rows)  # and the search went on


def test_a_finished_search_trains_nothing_even_without_the_folders_of_its_trials(finished, tmp_path):
    study, workdir, findings, _ = finished
    (tmp_path / record.RECORD).write_bytes((workdir / record.RECORD).read_bytes())
    failed = [path for path in workdir.glob("*/*/failed.json")]
    for path in failed:
        copy = tmp_path / path.relative_to(workdir)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(path.read_bytes())
    again, trained = finish(study, tmp_path)
    assert trained == []
    assert again == findings


def test_a_search_that_continues_comes_to_the_same(finished, tmp_path):
    study, workdir, findings, trained = finished
    state = search_in(study, epath.Path(tmp_path))
    for _ in range(7):
        train(state.take(), study, epath.Path(tmp_path))
    again, others = finish(study, tmp_path)
    assert again == findings
    assert len(others) == len(trained) - 7
    assert (tmp_path / record.RECORD).read_bytes() == (workdir / record.RECORD).read_bytes()


def test_a_record_that_is_damaged_or_changed_is_one_line(finished, tmp_path):
    study, workdir, _, _ = finished
    whole = (workdir / record.RECORD).read_text()
    first = json.loads(whole)["searches"][0]["trials"][0]
    changed = json.loads(whole)
    changed["searches"][0]["trials"][0]["network"] = changed["searches"][0]["trials"][1]["network"]
    for content, said in (
        ("", "search.json is damaged"),
        ("[]", "search.json is damaged"),
        (whole[: len(whole) // 2], "search.json is damaged"),
        (whole.replace(f'"top1": {first["top1"]}', '"top1": 7', 1), "7 is no accuracy"),
        (json.dumps(changed), "trial 0 of evolution, seed 0, is mini0/"),
    ):
        (tmp_path / record.RECORD).write_text(content)
        with pytest.raises(DataError) as error:
            search_in(study, epath.Path(tmp_path))
        assert said in str(error.value)
        assert "\n" not in str(error.value)


def test_when_nothing_can_be_trained_there_is_one_line(tmp_path):
    class Everything:
        def __contains__(self, _):
            return True

    study = study_of(algorithms=("random",), seeds=(0,), trials=3)
    state = search_in(study, epath.Path(tmp_path))
    while (trial := state.take()) is not None:
        train(trial, study, epath.Path(tmp_path), fails=Everything())
    with pytest.raises(
        TrainingError, match=r"no network of the search could be trained; the first one: the loss is nan"
    ):
        state.winner()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space.kernels": ()}, "the space holds no network: config.space.kernels is empty"),
        (
            {"reward.target": 1e-6},
            "no mutation of mini0:width=0.5,resolution=10 is within config.limits; the first one has",
        ),
        ({"limits.parameters": 10}, "no mutation of mini0:width=0.5,resolution=10 is within config.limits"),
        ({"limits.activations": 10}, "is within config.limits; the first one has activations"),
        (
            {
                "space.operations": ("mbconv",),
                "space.kernels": (3,),
                "space.expansions": (4,),
                "space.se_ratios": (0.25,),
                "space.widths": (1.0,),
                "space.repeats": (0,),
            },
            "no mutation can leave mini0:width=0.5,resolution=10: each choice of config.space has one value",
        ),
        ({"limits.cost": 1.0}, "config.limits.cost is 1.0; expected more than 1"),
        ({"held_out": 0}, "config.held_out is 0; expected 1 to 50 percent"),
        ({"trials": 0}, "config.trials is 0; expected 1 or more"),
        ({"algorithms": ("gradient",)}, "config.algorithms has 'gradient'; take some of evolution, random"),
        ({"reward.form": "firm"}, "config.reward.form is 'firm'; take one of soft, hard"),
        ({"baseline": "b77"}, "model variant 'b77' is unknown"),
        ({"overrides": ("data.train_split=train[:50%]",)}, "is a part already"),
        ({"proxy": ("duration=6 apples",)}, "with config.overrides: config.duration is '6 apples'"),
    ],
)
def test_a_search_that_cannot_work_is_one_line(tmp_path, changes, said):
    with pytest.raises(ConfigError) as error:
        search_in(study_of(**changes), epath.Path(tmp_path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_report_has_every_course_and_network(finished):
    _, _, findings, _ = finished
    text = report.text(findings)
    for course in findings["searches"]:
        assert f"{course['algorithm']}, seed {course['seed']}" in text
        assert f"{course['trials'][-1]['best_reward']:.4f}" in text
    for row in (*findings["full"], *findings["final"]):
        assert row["network"] in text
    assert f"rho {findings['spearman']:+.2f}" in text
    figure = report.figure(findings)
    assert figure.ndim == 3
    assert len({tuple(colour) for colour in figure[::3, ::3].reshape(-1, 3)}) > 4


def test_the_launcher_reads_the_lines_of_the_trials_that_can_start(tmp_path):
    study, workdir = study_of(in_flight=3), epath.Path("gs://bucket/search")
    state = search_in(study, epath.Path(tmp_path))
    trials = list(iter(state.take, None))
    assert len(trials) == 4 * 3  # three of each course
    for trial, line in zip(
        trials, launching.lines(trials, workdir, study.config.train, study.overrides, "search"), strict=True
    ):
        command, *arguments = shlex.split(line)
        assert command == "launch/tpu_pod.sh"
        read = launcher_arguments.parse(arguments, {}, tmp_path / "pod.env", ROOT, ROOT)
        assert read.workdir == str(trial.workdir(workdir))
        assert "--config.data.train_split=train[:80%]" in read.overrides
        assert f"--config.model.variant={trial.variant}" in read.overrides


def test_the_parts_of_a_split_share_no_image_and_leave_none_out(tmp_path):
    ensure_digits(str(tmp_path))
    parts = [open_source("digits", split, str(tmp_path)) for split in ("train", "train[:80%]", "train[80%:]")]
    whole, one, other = ([part.describe(index) for index in range(len(part))] for part in parts)
    assert one + other == whole
    assert len(set(whole)) == 1437
