"""Weights of scaled networks: kept under the name that was trained, and refused by formats that have no such network."""

import dataclasses

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.weights import directory, official, timm
from pipeline.weights.forward import make_forward
from pipeline.weights.metadata import Metadata
from tests.weights.samples import random_weights, same

SCALED = "mini0:depth=1.5,width=0.5,resolution=20"
WITH_STAGES = "mini0/er_r2_k3_s2_e4_c16_se0.25/ir_r3_k5_s1_e4_c24_se0.25/dsa_r2_k3_s2_c48/er_r1_k3_s2_e1_c48:width=0.5"


@pytest.mark.slow
@pytest.mark.parametrize("variant", [SCALED, WITH_STAGES])
def test_weights_of_a_scaled_network_are_written_and_read(tmp_path, variant):
    weights = random_weights(variant, num_classes=3, image_size=20)
    with directory.appearing(tmp_path / "weights") as folder:
        directory.write(weights, folder)
    found = directory.read(tmp_path / "weights")
    assert found.metadata == weights.metadata
    assert same(found, weights)
    assert make_forward(found)(np.zeros((1, 20, 20, 3), np.uint8)).shape == (1, 3)


@pytest.mark.parametrize("variant", ["b77", "b0:width=0", "b0:depth=1e9", "b0:" + "width=1," * 1000])
def test_a_variant_that_cannot_be_is_one_line(variant):
    content = dataclasses.replace(Metadata("b0", 10, 224)).to_json() | {"variant": variant}
    with pytest.raises(DataError) as error:
        Metadata.from_json(content, "metadata.json")
    assert str(error.value).startswith("metadata.json: variant cannot be: model variant ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_formats_without_scaled_networks_say_so(tmp_path):
    weights = random_weights("b0:depth=0.5,width=0.1", num_classes=3, image_size=32)
    with pytest.raises(ConfigError, match=r"timm has no network b0:depth=0\.5,width=0\.1"):
        timm.write(weights, tmp_path)
    with pytest.raises(ConfigError, match=r"the authors' code has no network b0:depth=0\.5,width=0\.1"):
        official.write(weights, tmp_path)
    assert list(tmp_path.iterdir()) == []
