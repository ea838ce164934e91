"""What the launcher reads of a configuration and of its plan, in a checkout whose planner is a few lines."""

import os
import re
import sys
from pathlib import Path

import pytest
from cloud.bed import REPOSITORY
from pod.errors import Refused
from pod.starting import configuration
from user import refusal


def test_a_batch_that_does_not_divide():
    said = refusal(configuration.check_batch, 100, 32, "v3-32")
    assert "config.batch_size=100 does not divide over the 32 devices of v3-32; the next that does is 128" in said


def test_a_configuration_that_cannot_work_is_refused_with_the_trainers_words_and_code(tmp_path):
    root = plain_checkout(tmp_path)
    found = configuration.read(root, str(REPOSITORY / "configs" / "b7.py"), ["--config.batch_size=64"])
    assert (found.accelerator_type, found.batch_size, found.duration) == ("v5p-64", 64, "350 epochs")
    with pytest.raises(Refused, match="batch_size") as refused:
        configuration.read(root, str(REPOSITORY / "configs" / "b7.py"), ["--config.bathc_size=1"])
    assert refused.value.exit_code == 78


def plain_checkout(folder, planner=""):
    """A checkout whose .venv is this Python, and whose planner is the given code."""
    root = folder / "checkout"
    (root / "launch" / "lib").mkdir(parents=True)
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    probe = '[ "$1" != -c ] || exit 0\n' if planner else ""
    python.write_text(f'#!/bin/sh\n{probe}exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for name in ("requirements.txt",):
        (root / name).write_bytes((REPOSITORY / name).read_bytes())
        (root / ".venv" / name).write_bytes((REPOSITORY / name).read_bytes())
    (root / "launch" / "lib" / "inspect_config.py").symlink_to(REPOSITORY / "launch" / "lib" / "inspect_config.py")
    if planner:
        (root / "pipeline").mkdir()
        (root / "pipeline" / "__init__.py").touch()
        (root / "pipeline" / "plan.py").write_text(planner)
    return root


def planner(status: int) -> str:
    """A planner that prints its arguments and ends with a status."""
    return f"import sys\nprint(sys.argv[1:])\nprint('the reason', file=sys.stderr)\nsys.exit({status})\n"


def test_a_plan_that_says_no_ends_it(tmp_path):
    root = plain_checkout(tmp_path, planner(70))
    assert "the plan says no: the reason" in refusal(configuration.plan, root, "c.py", "v3-32", "", [])


@pytest.mark.parametrize(("status", "there"), [(0, True), (71, False), (78, False)])
def test_a_plan_that_cannot_be_made_is_no_obstacle(tmp_path, status, there):
    root = plain_checkout(tmp_path, planner(status))
    answer, words = configuration.plan(root, "c.py", "v3-32", "gs://d", ["--config.seed=3"])
    assert answer == there
    if there:
        assert "'--topology=v3-32', '--config.data.data_dir=gs://d', '--config.seed=3'" in words
    else:
        assert words == "the reason"


def test_the_hours_of_a_plan_are_read_from_its_own_words():
    """A line as `pipeline/planning/report.py` writes it."""
    numbers = {
        "total_steps": 109_450,
        "evaluation": 18.0,
        "hours": 1234.56,
        "chip_hours": 39_506.0,
        "dollars": 165_924.0,
    }
    source = (REPOSITORY / "pipeline" / "planning" / "report.py").read_text()
    form = re.search(r'f"(  whole run .*)"\n\s*f"(.*)",', source)
    line = re.sub(r"\{\w+\.(\w+)(:[^}]*)\}", r"{\1\2}", form[1] + form[2]).format(**numbers)
    assert configuration.planned_hours(f"v5p-64: 32 chips\n{line}\n") == 1234.6
    assert configuration.planned_hours("v5p-64: 32 chips\n") == 0


def test_data_that_this_machine_cannot_read_is_planned_without(tmp_path):
    code = "import sys\nif 'gs://' in str(sys.argv):\n    sys.exit('no credentials')\n" + planner(0)
    there, words = configuration.plan(plain_checkout(tmp_path, code), "c.py", "v3-32", "gs://d", [])
    assert there
    assert "data_dir" not in words


def test_two_starts_at_once_make_one_environment(tmp_path, monkeypatch):
    (tmp_path / "launch").mkdir()
    (tmp_path / "requirements.txt").write_text("ml_collections==1\n")
    waited, made = [], []

    def wait_for_the_other(file, how):
        """The other start has finished when this one has the lock."""
        waited.append(Path(os.readlink(f"/proc/self/fd/{file}")))
        complete(tmp_path / "launch" / ".venv", "")

    def complete(venv, requirements):
        made.append(venv)
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").touch(mode=0o755)
        (venv / "requirements.txt").write_text("ml_collections==1\n")

    monkeypatch.setattr(configuration.fcntl, "flock", wait_for_the_other)
    monkeypatch.setattr(configuration, "_install", complete)
    assert configuration.find_python(tmp_path) == str(tmp_path / "launch" / ".venv" / "bin" / "python")
    assert waited == [tmp_path / "launch"]
    assert made == [tmp_path / "launch" / ".venv"]
