"""Files of a run or a dataset that a crash of the machine, an editor or a copy has damaged: each is named, in one line."""

import json
import pathlib

import pytest
from absl import logging

from pipeline.data.preparation import datasets
from pipeline.data.sources import open_source
from pipeline.errors import DataError
from pipeline.reporting.reporter import read_events
from pipeline.training.results import read_results
from tests.runs import TINIEST, reported, run

ZEROS = b"\0" * 40  # what some file systems leave of the last writes when the power goes


@pytest.mark.slow
def test_damaged_lines_of_the_record_are_named_and_set_aside_and_the_run_goes_on(tmp_path):
    arguments = (f"--config={TINIEST}", f"--workdir={tmp_path}/run", f"--config.data.data_dir={tmp_path}/data")
    arguments += ("--config.log.every=1 steps", "--config.log.tensorboard=False", "--config.schedule.name=constant")
    assert run(*arguments, "--config.duration=4 steps")[0] == 0
    record = tmp_path / "run" / "metrics.jsonl"
    (tmp_path / "run" / "results.json").unlink()
    lines = record.read_bytes().splitlines()
    losses = reported(tmp_path / "run", "train", "loss")
    damaged = [b'{"event": "train", "st', ZEROS, b"[1, 2]", b'{"event": "train"}', b"\xff\xfe"]
    record.write_bytes(b"\n".join([lines[0], *damaged, *lines[1:], b'{"half']))
    code, output = run(*arguments, "--config.duration=6 steps")
    assert code == 0, output
    assert [f"metrics.jsonl: line {number} is damaged and left out" in output for number in range(1, 8)] == [
        *(False, True, True, True, True, True, False)
    ]
    found = reported(tmp_path / "run", "train", "loss")
    assert list(found) == [1, 2, 3, 4, 5, 6]
    assert [found[step] for step in range(1, 5)] == list(losses.values())
    assert len((tmp_path / "run" / "metrics.damaged").read_text().splitlines()) == 5
    for line in record.read_text().splitlines():
        json.loads(line)


def test_a_record_of_nothing_but_damage_is_an_empty_one(tmp_path, caplog):
    logging.set_verbosity(logging.WARNING)
    (tmp_path / "metrics.jsonl").write_bytes(ZEROS + b"\n")
    assert read_events(str(tmp_path)) == []
    assert "line 1 is damaged" in caplog.text


@pytest.mark.parametrize("content", [b"", ZEROS, b"[]", b'{"step": 12}', b'{"step": 12, "evalu'])
def test_damaged_results_are_one_error(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(DataError, match=r"results.json is damaged .* Delete it"):
        read_results(str(tmp_path), 12)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> pathlib.Path:
    return pathlib.Path(datasets.prepare_digits(str(tmp_path_factory.mktemp("data"))))


@pytest.mark.parametrize("content", [b"", ZEROS, b'{"name": "digits", '])
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "contents.json"])
def test_damaged_metadata_of_a_dataset_are_one_error(dataset, name, content):
    whole = (dataset / name).read_bytes()
    try:
        (dataset / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            open_source("digits", "train", str(dataset.parent.parent))
    finally:
        (dataset / name).write_bytes(whole)


def test_the_damaged_plan_of_a_preparation_is_one_error(tmp_path):
    folder = tmp_path / "digits" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "preparation.json").write_bytes(ZEROS)
    with pytest.raises(DataError, match=r"preparation.json is damaged .* Delete .*/digits/1.0.0 to begin again"):
        datasets.prepare_digits(str(tmp_path))
