import jax
import jax.numpy as jnp
import pytest
from flax import traverse_util

from pipeline.model.families import VARIANTS
from pipeline.model.network import Network
from pipeline.model.scaling import architecture
from pipeline.weights.names import DIALECTS, official_scope, tensor_table


@pytest.mark.parametrize(
    ("variant", "count"),
    {"b0": 311, "b1": 439, "b2": 439, "b3": 496, "b4": 610, "b5": 738, "b6": 852, "b7": 1037}.items(),
)
def test_counts_are_those_of_the_authors_checkpoints(variant, count):
    assert len(tensor_table(architecture(variant), 1000)) == count


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_dialect_is_a_bijection(variant):
    table = tensor_table(architecture(variant), 1000)
    assert len({tensor.path for tensor in table}) == len(table)
    for dialect in DIALECTS:
        assert len({tensor.foreign[dialect] for tensor in table}) == len(table)


@pytest.mark.parametrize("variant", ["b1", "lite1", "mini0"])
def test_our_paths_and_shapes_are_the_networks(variant):
    network = Network(architecture(variant), 7)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    found = {path: leaf.shape for path, leaf in traverse_util.flatten_dict(variables, sep="/").items()}
    assert {tensor.path: tensor.shape for tensor in tensor_table(architecture(variant), 7)} == found


@pytest.mark.parametrize(
    ("path", "official", "timm", "lukemelas", "keras"),
    [  # written down from the authors' checkpoint and from timm, luke's and Keras's own models
        (
            "params/blocks_0_0/project_conv/kernel",
            "blocks_0/conv2d/kernel",
            "blocks.0.0.conv_pw.weight",
            "_blocks.0._project_conv.weight",
            "block1a_project_conv/kernel",
        ),
        (
            "batch_stats/blocks_0_1/project_bn/var",
            "blocks_1/tpu_batch_normalization_1/moving_variance",
            "blocks.0.1.bn2.running_var",
            "_blocks.1._bn2.running_var",
            "block1b_project_bn/moving_variance",
        ),
        (
            "params/blocks_1_2/depthwise_bn/scale",
            "blocks_4/tpu_batch_normalization_1/gamma",
            "blocks.1.2.bn2.weight",
            "_blocks.4._bn1.weight",
            "block2c_bn/gamma",
        ),
        (
            "params/blocks_1_0/se/expand/bias",
            "blocks_2/se/conv2d_1/bias",
            "blocks.1.0.se.conv_expand.bias",
            "_blocks.2._se_expand.bias",
            "block2a_se_expand/bias",
        ),
        (
            "params/blocks_1_0/depthwise_conv/kernel",
            "blocks_2/depthwise_conv2d/depthwise_kernel",
            "blocks.1.0.conv_dw.weight",
            "_blocks.2._depthwise_conv.weight",
            "block2a_dwconv/kernel",
        ),
        ("params/head/bn/bias", "head/tpu_batch_normalization/beta", "bn2.bias", "_bn1.bias", "top_bn/beta"),
        ("params/head/classifier/kernel", "head/dense/kernel", "classifier.weight", "_fc.weight", "predictions/kernel"),
    ],
)
def test_names_of_b1(path, official, timm, lukemelas, keras):
    tensor = next(tensor for tensor in tensor_table(architecture("b1"), 1000) if tensor.path == path)
    expected = {"official": official, "timm": timm, "lukemelas": lukemelas, "keras": keras}
    assert {dialect: tensor.foreign[dialect] for dialect in expected} == expected


def test_scope():
    assert official_scope(architecture("b3")) == "efficientnet-b3"
    assert official_scope(architecture("lite0")) == "efficientnet-lite0"
