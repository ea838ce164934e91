"""What commands say before their long parts, and the commands that a finished run prints, given as they are printed."""

import re
import shlex
import subprocess
import sys

import pytest

from pipeline.host.announcing import announce
from tests.runs import ROOT, TINIEST, run

# The export has to know the network of the tests.
IMPORT_TINY = "import runpy, sys; import tests.configs.tiny; runpy.run_module(sys.argv.pop(1), run_name='__main__')"


@pytest.mark.slow
def test_a_run_says_what_begins_and_prints_commands_that_work(tmp_path):
    code, output = run(
        *(f"--config={TINIEST}", f"--workdir={tmp_path}/run", f"--config.data.data_dir={tmp_path}/data"),
        *("--config.duration=2 steps", "--config.schedule.warmup=1 steps"),
    )
    assert code == 0, output
    said = [line for line in output.splitlines() if re.search(r"\(usually .*\) …$", line)]
    assert [line.split(" (")[0] for line in said] == [
        "Importing JAX and connecting to the other processes",
        "Opening digits",
        "Restoring the newest checkpoint, or making a new state",
        "Compiling the train step",
    ]
    python, *arguments = shlex.split(re.search("Take it along: (.*)", output)[1])
    assert arguments[:2] == ["-m", "pipeline.export"]
    arguments[arguments.index("exported")] = str(tmp_path / "exported")
    exported = subprocess.run(
        [python, "-c", IMPORT_TINY, *arguments[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert exported.returncode == 0, exported.stderr
    assert "Opening the weights in" in exported.stderr
    assert "Exporting onnx, and comparing it in its own runtime (usually" in exported.stderr
    assert sorted(path.name for path in (tmp_path / "exported").iterdir()) == ["onnx", "weights"]
    python, *arguments = shlex.split(re.search("Look closer: *(.*)", output)[1])
    shown = subprocess.run([python, *arguments[:2], "--help"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0
    assert arguments[2] in shown.stdout


def test_a_command_says_what_it_opens_before_it_imports(tmp_path):
    """The words are there although the import fails."""
    broken = tmp_path / "jax"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('not yet')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom pipeline import command, predict\n"
    code += "command.run(predict.main, ['predict', '--weights=w', 'image.jpg'], takes_paths=True)"
    end = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert end.stderr.splitlines()[0].startswith("Opening the weights in w (usually ")


def test_the_words_go_to_stderr(capsys):
    announce("Waiting", "a minute")
    assert capsys.readouterr() == ("", "Waiting (usually a minute) …\n")
