"""The course of a study, with trials that end at once: what is trained, what is chosen, and that all of it costs the same."""

import hashlib
import json

import pytest
from etils import epath

from configs import recipe, scale, scale_fashion_mnist
from pipeline.errors import ConfigError, DataError, TrainingError
from pipeline.model.counting import count_architecture
from pipeline.model.scaling import architecture
from pipeline.model.scaling_search import WAYS, multiply_adds
from pipeline.scaling import report
from pipeline.scaling.investigation import Investigation, as_json
from pipeline.scaling.study import Study
from pipeline.trials.identity import continue_in
from pipeline.trials.trials import Outcome, Trial, outcome, write_failure

CLASSES = 10


def study_of(*baselines, **changes):
    config = scale_fashion_mnist.get_config()
    config.baselines = baselines or config.baselines
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return Study.from_config(config, "macs")


class Trainer:
    """Stands for the trainer: leaves what it leaves, with an accuracy that its name decides."""

    def __init__(self, workdir, diverging=()):
        self.workdir, self.diverging, self.trained = workdir, diverging, []

    def __call__(self, trials):
        for trial in trials:
            self.trained.append(trial)
            if str(trial.variant) in self.diverging:
                write_failure(trial, self.workdir, "the loss is nan at step 3")
                continue
            evaluation = {"raw": {"top1": 0.5}, "ema": {"top1": top1_of(trial)}}
            content = {"step": 1, "evaluation": evaluation, "config": config_of(trial)}
            folder = trial.workdir(self.workdir)
            folder.mkdir(parents=True)
            (folder / "results.json").write_text(json.dumps(content))


def top1_of(trial):
    return int(hashlib.sha256(trial.name.encode()).hexdigest()[:6], 16) / 2**24


def config_of(trial):
    return {"seed": trial.seed, "model": {"variant": str(trial.variant)}}


def investigate(study, workdir, **options):
    trainer = Trainer(epath.Path(workdir), **options)
    investigation = Investigation(study, epath.Path(workdir), multiply_adds(CLASSES), CLASSES, trainer)
    return investigation.findings(), trainer


def counted(row):
    """The true cost, counted from the network that the trial was told to train."""
    return count_architecture(architecture(row["variant"]), CLASSES).macs


def test_costs_are_within_three_percent_of_each_other_in_every_comparison(tmp_path):
    findings, trainer = investigate(study_of(), tmp_path)
    for found in findings["baselines"]:
        search = found["search"]["candidates"]
        assert len(search) >= 8
        comparisons = [search]
        for times in (2.0, 4.0):
            rows = [row for row in found["comparison"] if row["times"] == times]
            assert [row["way"] for row in rows] == list(WAYS)
            comparisons.append(rows)
        for rows in comparisons:
            costs = [counted(row) for row in rows]
            assert max(costs) / min(costs) < 1.0305, costs
    for trial in trainer.trained:  # the size that the trainer is told is the one that was counted
        assert f"--config.image_size={architecture(str(trial.variant)).resolution}" in trial.overrides(())


def test_the_best_candidate_is_scaled_and_trials_are_shared(tmp_path):
    findings, trainer = investigate(study_of(), tmp_path)
    for found in findings["baselines"]:
        best = max(found["search"]["candidates"], key=lambda row: row["mean"])
        assert found["search"]["best"] == {key: best[key] for key in ("alpha", "beta", "gamma")}
        compound = next(row for row in found["comparison"] if row["way"] == "compound" and row["times"] == 2.0)
        if compound["variant"] == best["variant"]:
            assert compound["top1"][0] == best["top1"][0]
    networks = [architecture(str(trial.variant)) for trial in trainer.trained]
    trained = [(net.blocks, net.stem_filters, net.head_filters, net.resolution) for net in networks]
    seeds = [trial.seed for trial in trainer.trained]
    assert len(set(zip(trained, seeds))) == len(trained)  # nor is a network trained again under another name


def test_a_finished_study_trains_nothing_and_finds_the_same(tmp_path):
    study = study_of()
    first, _ = investigate(study, tmp_path)
    second, trainer = investigate(study, tmp_path)
    assert trainer.trained == []
    assert as_json(second) == as_json(first)


@pytest.mark.slow
def test_a_diverging_candidate_is_reported_and_the_search_goes_on(tmp_path):
    study = study_of("mini0:width=0.6,resolution=20")
    undisturbed, _ = investigate(study, tmp_path / "one")
    rows = undisturbed["baselines"][0]["search"]["candidates"]
    best = max(rows, key=lambda row: row["mean"])
    findings, _ = investigate(study, tmp_path / "other", diverging=[best["variant"]])
    found = findings["baselines"][0]
    row = next(row for row in found["search"]["candidates"] if row["variant"] == best["variant"])
    assert (row["top1"], row["mean"], row["problems"]) == ([], None, ["the loss is nan at step 3"])
    rows = [row for row in rows if row["variant"] != best["variant"]]
    second = max(rows, key=lambda row: row["mean"])
    assert found["search"]["best"]["alpha"] == second["alpha"]
    text = report.text(findings)
    assert f"{best['variant']}: the loss is nan at step 3" in text.splitlines()


def test_when_all_diverge_there_is_one_line(tmp_path):
    class Everything:
        def __contains__(self, _):
            return True

    with pytest.raises(
        TrainingError, match=r"^no candidate of mini0.* could be trained; the first one: the loss is nan"
    ):
        investigate(study_of("mini0:width=0.6,resolution=20"), tmp_path, diverging=Everything())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search.times": 0.5}, "a budget of 0.5 times the baseline's cost is not above the baseline"),
        ({"comparison.times": (2.0, 1.0)}, "a budget of 1 times the baseline's cost is not above the baseline"),
        ({"search.step": 0.0}, "config.search.step must be above 0"),
        ({"comparison.seeds": 0}, "config.comparison.seeds is 0; expected 1 or more"),
        ({"baselines": ()}, "config.baselines must not be empty"),
        ({"baselines": ("b77",)}, "model variant 'b77' is unknown"),
        ({"train": "configs/none.py"}, "the trials, configs/none.py with config.overrides: "),
        ({"overrides": ("duration=6 apples",)}, "with config.overrides: config.duration is '6 apples'"),
        ({"overrides": ("modell.variant=b0",)}, "with config.overrides: "),
    ],
)
def test_a_study_that_cannot_work_is_one_line(changes, said):
    with pytest.raises(ConfigError) as error:
        study_of(**changes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search.step": 0.9, "search.slack": 0.01}, "no mix on a grid of step 0.9 costs "),
        (
            {"search.step": 0.5, "tolerance": 1e-9, "search.slack": 0.2},
            "none has a true cost within 0.0% of the budget",
        ),
    ],
)
def test_a_grid_without_candidates_is_one_line(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        investigate(study_of("mobilenet_v2:resolution=96", **changes), tmp_path)


def test_another_study_in_the_same_folder_is_refused(tmp_path):
    structures = {"study": scale, "train": recipe}
    continue_in(study_of().identity(), epath.Path(tmp_path), structures)
    continue_in(study_of().identity(), epath.Path(tmp_path), structures)
    with pytest.raises(ConfigError, match=r"holds another study; it differs in study.search.seeds \(1, not 2\)"):
        continue_in(study_of(**{"search.seeds": 2}).identity(), epath.Path(tmp_path), structures)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(DataError, match=r"study.json is damaged"):
        continue_in(study_of().identity(), epath.Path(tmp_path), structures)


def test_a_study_continues_after_keys_were_added_to_the_configurations(tmp_path):
    structures = {"study": scale, "train": recipe}
    continue_in(study_of().identity(), epath.Path(tmp_path), structures)
    path = tmp_path / "study.json"
    earlier = json.loads(path.read_text())
    del earlier["train"]["log"]["norms"], earlier["train"]["progressive"], earlier["study"]["maps"]
    path.write_text(json.dumps(earlier))
    continue_in(study_of().identity(), epath.Path(tmp_path), structures)
    with pytest.raises(ConfigError, match=r"study.maps \(\d+, not 9\)"):
        continue_in(study_of(maps=9).identity(), epath.Path(tmp_path), structures)


def test_results_of_another_run_or_damaged_ones_are_refused(tmp_path):
    study = study_of()
    trial, other = (Trial(study.baselines[0], seed) for seed in (0, 1))
    Trainer(epath.Path(tmp_path))([trial])
    assert outcome(trial, epath.Path(tmp_path)) == Outcome(top1_of(trial))
    assert outcome(other, epath.Path(tmp_path)) is None
    trial.workdir(tmp_path).rename(other.workdir(tmp_path))
    with pytest.raises(DataError, match=r"is of the run .*, seed 0, not .*, seed 1: move its folder away"):
        outcome(other, epath.Path(tmp_path))
    (other.workdir(tmp_path) / "results.json").write_text('{"evaluation": {}')
    with pytest.raises(DataError, match=r"results.json is damaged .* Delete it and repeat the command"):
        outcome(other, epath.Path(tmp_path))


def test_the_report_has_every_network_and_says_what_chance_could_do(tmp_path):
    findings, _ = investigate(study_of("mini0:width=0.6,resolution=20"), tmp_path)
    text = report.text(findings)
    found = findings["baselines"][0]
    for row in found["comparison"]:
        assert f"{100 * row['mean']:.2f} ± {100 * row['half_width']:.2f}" in text
    assert text.count("the best of the others") == 2
    figure = report.figure(findings)
    assert figure.ndim == 3
    assert len({tuple(colour) for colour in figure[::3, ::3].reshape(-1, 3)}) > 4  # a line for each way
