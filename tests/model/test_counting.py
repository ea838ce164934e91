"""Counts against the published figures, to the digit, for the specification and for the network itself."""

import jax
import jax.numpy as jnp
import pytest

from pipeline.model.counting import count_architecture, count_batch_norms, count_blocks
from pipeline.model.network import Network
from pipeline.model.scaling import architecture

# Parameters and BN statistics as counted in the published TensorFlow graphs, Keras and timm; multiply-adds of Keras' graphs
# (convolutions, squeeze-and-excitation, classifier). All for 1,000 classes at the variant's own resolution.
PUBLISHED = {
    "b0": (5_288_548, 42_016, 385_814_752),
    "b1": (7_794_184, 62_048, 686_802_832),
    "b2": (9_109_994, 67_568, 993_561_872),
    "b3": (12_233_232, 87_296, 1_827_141_392),
    "b4": (19_341_616, 125_200, 4_393_771_024),
    "b5": (30_389_784, 172_736, 10_266_384_752),
    "b6": (43_040_704, 224_432, 19_067_593_536),
    "b7": (66_347_960, 310_720, 37_745_884_192),
    "b8": (87_413_142, 380_032, None),
    "l2": (480_309_308, 1_090_688, None),
    "lite0": (4_652_008, 42_016, None),
    "lite1": (5_416_680, 53_664, None),
    "lite2": (6_092_072, 58_096, None),
    "lite3": (8_197_096, 76_672, None),
    "lite4": (13_006_568, 112_368, None),
}


@pytest.mark.parametrize("variant", PUBLISHED)
def test_specification_and_network_have_the_published_counts(variant):
    arch = architecture(variant)
    params, batch_stats, macs = PUBLISHED[variant]
    count = count_architecture(arch, 1000)
    assert (count.params, count.batch_stats) == (params, batch_stats)
    if macs is not None:
        assert count.macs == macs

    model = Network(arch, num_classes=1000)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(lambda rng, x: model.init(rng, x, train=False), jax.random.key(0), images)
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in variables.items()}
    assert sizes == {"params": params, "batch_stats": batch_stats}


@pytest.mark.parametrize(("variant", "layers"), [("b0", 49), ("b2", 69), ("b5", 116), ("b7", 163)])
def test_batch_norm_layers(variant, layers):
    assert count_batch_norms(architecture(variant)) == layers


@pytest.mark.parametrize(
    ("variant", "sizes"), [("b0", {112, 56, 28, 14, 7}), ("b2", {130, 65, 33, 17, 9}), ("b7", {300, 150, 75, 38, 19})]
)
def test_feature_maps_have_the_published_sizes(variant, sizes):
    arch = architecture(variant)
    assert {size for _, size, _ in count_blocks(arch, arch.resolution)} == sizes
