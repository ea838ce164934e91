"""Folders whose names mean something in a pattern, a URL or a shell: on gs:// and disks they are names and nothing else."""

import jax
import numpy as np
import pytest
from etils import epath

from pipeline.data.preparation.datasets import prepare_digits
from pipeline.data.sources import open_source
from pipeline.runtime.checkpoint_reading import read_variables
from pipeline.storage import literal_names
from tests.runtime.test_checkpoints import restore, save, state_of

NAMES = ("[b0]", "b0 [1]", "a?b", "a#b", "a*b", "a**b", "a b", "a%20b", "{a,b}+", "äö日本", "a'\"&;$b")


@pytest.fixture(params=["gs", "disk"])
def root(request, server, tmp_path):
    return epath.Path("gs://bucket" if request.param == "gs" else tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_come_back_and_lie_in_their_folder_alone(name, root, server):
    first, before = len(server.requests), {path.name for path in root.iterdir()}
    save(root / name, state_of(1), state_of(2), keep=1)
    state, _ = restore(root / name)
    jax.tree.map(np.testing.assert_array_equal, state, state_of(2))
    assert read_variables(str(root / name))[0]["step"] == 2
    assert {path.name for path in root.iterdir()} - before == {name}
    asked = {request.object for request in server.requests[first:] if request.client == "tensorstore"}
    assert not [key for key in asked if not key.startswith(f"{name}/")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["[b0]", "a#b?", "a**b"])
def test_a_dataset_is_prepared_and_read(name, root):
    prepare_digits(str(root / name))
    source = open_source("digits", "train", str(root / name))
    assert source[5]["image"].startswith(b"\x89PNG")


@pytest.mark.parametrize(("pattern", "found"), [("*.a", ["1.a", "2.a"]), ("below/*", ["below/3.a"]), ("*/*.b", [])])
def test_a_pattern_is_looked_for_below_the_folder(pattern, found, root):
    literal_names.take_folders_literally()
    folder = root / "[x]"
    for name in ("1.a", "2.a", "3.b", "below/3.a"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    assert [str(path) for path in folder.glob(pattern)] == [f"{folder}/{name}" for name in found]
