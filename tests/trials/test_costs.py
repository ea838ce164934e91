"""Costs of networks: a measured pass computes what is counted, and what was measured is kept."""

import json
import multiprocessing
from unittest import mock

import pytest
from etils import epath

from configs import scale_digits
from pipeline.errors import DataError
from pipeline.model.counting import count_architecture
from pipeline.model.scaling import architecture
from pipeline.model.variants import ScaledVariant
from pipeline.planning.dataset import DatasetSize
from pipeline.trials import compile_process, configuration, costs

SIZES = DatasetSize(10, 1437, 360)


@pytest.fixture(scope="module")
def config():
    study = scale_digits.get_config()
    return configuration.read(study.train, tuple(study.overrides))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["mini0:width=0.5,resolution=16", "mini0:width=0.5,resolution=48"])
def test_the_measured_pass_does_the_multiply_adds_of_the_network(config, text):
    """XLA counts the operations of what it has compiled; of a pass that it computed beforehand none are left."""
    own = costs.for_network(config, ScaledVariant.parse(text))
    forward, arguments = costs.forward_pass(own, SIZES.num_classes)
    operations = forward.lower(*arguments).compile().cost_analysis()["flops"]
    macs = count_architecture(architecture(text), SIZES.num_classes).macs
    assert operations == pytest.approx(2 * macs, rel=0.25)  # it also counts BatchNorm, activations and gates
    assert forward(*arguments).shape == (1, SIZES.num_classes)


def test_a_network_is_measured_once_whatever_its_name(config, tmp_path):
    measured = mock.Mock(side_effect=[3.0, 5.0])
    first, same, other = map(ScaledVariant.parse, ("mini0:resolution=16", "mini0:width=1.01", "mini0:resolution=20"))
    same = same.scaled(resolution=16)
    with mock.patch.object(costs, "_median_seconds", measured):
        cost = costs.cost_of("latency", config, epath.Path(tmp_path), SIZES)
        assert [cost(each) for each in (first, same, other, first)] == [3.0, 3.0, 5.0, 3.0]
        again = costs.cost_of("latency", config, epath.Path(tmp_path), SIZES)
        assert [again(each) for each in (same, other)] == [3.0, 5.0]
    assert measured.call_count == 2
    assert json.loads((tmp_path / "costs.json").read_text()) == {str(first): 3.0, str(other): 5.0}


@pytest.mark.parametrize("content", ["{", "[]", '{"b77": 1.0}', '{"b0": "fast"}', '{"b0": null}'])
def test_damaged_costs_are_one_line(config, tmp_path, content):
    (tmp_path / "costs.json").write_text(content)
    with pytest.raises(DataError, match=r"costs.json is damaged .* delete it with the whole study") as error:
        costs.cost_of("latency", config, epath.Path(tmp_path), SIZES)
    assert "\n" not in str(error.value)


def test_that_a_network_has_no_cost_is_kept(config, tmp_path):
    """The time of a compilation differs from start to start; a study must not."""
    large, small = map(ScaledVariant.parse, ("mini0:resolution=64", "mini0:resolution=16"))
    compiled = mock.Mock(side_effect=[costs.Unaffordable("its step did not compile within 2 minutes"), 7.0])
    with mock.patch.object(costs, "compiled_cycles"):
        for _ in range(2):
            cost = costs.cost_of("cycles", config, epath.Path(tmp_path), SIZES, compiled_within=lambda _: compiled)
            for _ in range(2):
                with pytest.raises(costs.Unaffordable, match=r"^its step did not compile within 2 minutes$"):
                    cost(large)
            assert cost(small) == 7.0
    assert compiled.call_count == 2


def test_a_compilation_that_takes_too_long_is_ended():
    cost = compile_process.limited("configs/none.py", (), SIZES, minutes=1e-5)
    with pytest.raises(costs.Unaffordable, match="its step did not compile within 1e-05 minutes"):
        cost(ScaledVariant("mini0", resolution=16))
    assert not multiprocessing.active_children()
