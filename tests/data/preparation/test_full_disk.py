"""A disk that is full while a dataset is prepared: the next start goes on, once there is room.

A limit of the size of files stands for the disk: the kernel refuses to write in the same place, with another number.
"""

import subprocess
import sys

import pytest
from making import make_image_folder

from pipeline.data.preparation import datasets
from pipeline.data.sources import open_source
from tests.runs import ROOT

_PREPARE = """
import resource, signal, sys
from pipeline import command, prepare
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # otherwise it ends the process
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
command.run(prepare.main)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unwritten", "room"),
    [("preparation.json", 64), ("pets-test.array_record-00000-of-00001", 70_000), ("contents.json", 128)],
)
def test_a_preparation_goes_on_after_the_disk_was_full(tmp_path, unwritten, room):
    make_image_folder(tmp_path / "pets")
    arguments = [str(tmp_path / "pets"), "pets", str(tmp_path / "data")]
    if unwritten == "contents.json":
        (datasets.prepare_image_folder(*arguments) / unwritten).unlink()  # only the check is left
    flags = ("--image_folder", "--name", "--data_dir")
    command = [sys.executable, "-c", _PREPARE, str(room), *map("=".join, zip(flags, arguments))]
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert failed.returncode == 71, failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("Error: no room to write: ")
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "data/pets/1.0.0" / unwritten).exists()
    datasets.prepare_image_folder(*arguments)
    assert len(open_source("pets", "train", str(tmp_path / "data"))) > 0
