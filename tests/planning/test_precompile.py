"""The results that come with the repository, and the command that keeps them fresh, with the CPU's compiler for libtpu's."""

import json
import sys
import types

import pytest

from pipeline import precompile
from pipeline.errors import ConfigError, TrainingError
from pipeline.planning import program, topology
from pipeline.planning.dataset import DatasetSize
from pipeline.runtime.mesh import make_mesh
from tests.configs import tiniest

NAMES = ["tiniest-evaluation-v5e-8", "tiniest-train-v5e-8"]


@pytest.fixture
def results(monkeypatch, tmp_path):
    """The file, empty; a configuration of the tests; and eight CPU devices in place of the compiler's topology."""
    path = tmp_path / "precompiled.json"
    path.write_text("{}\n")
    monkeypatch.setattr(program, "PRECOMPILED", path)
    monkeypatch.setattr(program, "compiler_version", lambda: "1.0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "configs.tiniest", tiniest)
    monkeypatch.setattr(precompile, "dataset_size", lambda config: DatasetSize(10, 1437, 360))
    monkeypatch.setattr(topology, "prepare", lambda: None)
    monkeypatch.setattr(topology, "mesh_of", lambda tpu_slice: make_mesh())
    program._precompiled.cache_clear()
    yield path
    program._precompiled.cache_clear()


def test_what_is_stale_is_named_and_then_compiled(results):
    assert precompile.refresh("tiniest:v5e-8", compile_stale=False) == NAMES[::-1]
    assert json.loads(results.read_text()) == {}
    assert precompile.refresh("tiniest:v5e-8", compile_stale=True) == NAMES[::-1]
    entries = json.loads(results.read_text())
    assert list(entries) == NAMES
    assert precompile.refresh("tiniest:v5e-8", compile_stale=False) == []

    entries[NAMES[1]]["key"] = "0" * 32  # of a step that has changed since
    results.write_text(json.dumps(entries))
    assert precompile.refresh("tiniest:v5e-8", compile_stale=False) == [NAMES[1]]


def test_a_change_of_the_configuration_makes_its_own_results(results):
    precompile.refresh("tiniest:v5e-8", compile_stale=True)
    assert precompile.refresh("tiniest,batch_size=64:v5e-8", compile_stale=True) == [
        "tiniest,batch_size=64-train-v5e-8",
        "tiniest,batch_size=64-evaluation-v5e-8",
    ]
    keys = {name: entry["key"] for name, entry in json.loads(results.read_text()).items()}
    assert keys["tiniest,batch_size=64-train-v5e-8"] != keys["tiniest-train-v5e-8"]
    assert keys["tiniest,batch_size=64-evaluation-v5e-8"] == keys["tiniest-evaluation-v5e-8"]


def test_the_check_covers_every_pair_of_the_file(monkeypatch):
    """The pairs come from the file's names; whichever step of one has changed, the error names it."""
    seen = []
    monkeypatch.setattr(topology, "prepare", lambda: None)
    monkeypatch.setattr(precompile, "refresh", lambda pair, compile_stale: seen.append(pair) or [f"of {pair}"])
    monkeypatch.setattr(precompile, "_CHECK", types.SimpleNamespace(value=True))
    with pytest.raises(TrainingError, match="belong to no step of today: of b0:"):
        precompile.main([])
    assert len(seen) == len(set(seen))
    assert {f"b{number}:v5e-256" for number in range(8)} <= set(seen)
    assert "b7,batch_size=512:v3-32" in seen


@pytest.mark.parametrize(
    "pair", ["b0", "b99:v3-32", "b0,batch_size:v3-32", "b0,no_key=3:v3-32", "b0,batch_size=x:v3-32", "b0:v9-8"]
)
def test_a_pair_that_cannot_be_is_one_line(pair):
    with pytest.raises(ConfigError) as error:
        precompile.refresh(pair, compile_stale=False)
    assert "\n" not in str(error.value)
