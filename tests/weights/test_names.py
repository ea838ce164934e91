import jax
import jax.numpy as jnp
import pytest
from flax import traverse_util

from pipeline.model.families import VARIANTS
from pipeline.model.network import Network
from pipeline.model.scaling import architecture, scale_baseline
from pipeline.model.specs import Baseline, Family, StageSpec
from pipeline.weights.names import CONVENTIONS, official_scope, tensor_table


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
    wanted = {"v2": {"official", "timm", "keras", "keras_h5"}, "mo": {"keras", "keras_h5"}, "re": {"keras", "keras_h5"}}
    conventions = wanted.get(variant[:2], set(CONVENTIONS))
    for convention in conventions:
        assert len({tensor.foreign[convention] for tensor in table}) == len(table)
    assert {name for tensor in table for name in tensor.foreign} == conventions


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["b1", "lite1", "mini0", "v2_b3", "mobilenet_v1", "mobilenet_v2", "resnet50"])
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
    assert {convention: tensor.foreign[convention] for convention in expected} == expected


@pytest.mark.parametrize(
    ("path", "official", "timm", "keras"),
    [  # written down from google/automl's effnetv2_model.py, timm's models and Keras's
        (
            "params/blocks_0_0/project_conv/kernel",  # fused, without an expansion
            "blocks_0/conv2d/kernel",
            "blocks.0.0.conv.weight",
            "block1a_project_conv/kernel",
        ),
        (
            "batch_stats/blocks_0_0/project_bn/mean",
            "blocks_0/tpu_batch_normalization/moving_mean",
            "blocks.0.0.bn1.running_mean",
            "block1a_project_bn/moving_mean",
        ),
        (
            "params/blocks_1_0/expand_conv/kernel",  # fused, with an expansion
            "blocks_2/conv2d/kernel",
            "blocks.1.0.conv_exp.weight",
            "block2a_expand_conv/kernel",
        ),
        (
            "params/blocks_1_0/project_conv/kernel",
            "blocks_2/conv2d_1/kernel",
            "blocks.1.0.conv_pwl.weight",
            "block2a_project_conv/kernel",
        ),
        (
            "params/blocks_3_0/depthwise_conv/kernel",
            "blocks_10/depthwise_conv2d/depthwise_kernel",
            "blocks.3.0.conv_dw.weight",
            "block4a_dwconv2/kernel",
        ),
        (
            "params/blocks_3_0/se/reduce/bias",
            "blocks_10/se/conv2d/bias",
            "blocks.3.0.se.conv_reduce.bias",
            "block4a_se_reduce/bias",
        ),
        (
            "params/blocks_3_0/project_bn/scale",
            "blocks_10/tpu_batch_normalization_2/gamma",
            "blocks.3.0.bn3.weight",
            "block4a_project_bn/gamma",
        ),
    ],
)
def test_names_of_v2_s(path, official, timm, keras):
    tensor = next(tensor for tensor in tensor_table(architecture("v2_s"), 1000) if tensor.path == path)
    expected = {"official": official, "timm": timm, "keras": keras}
    assert {convention: tensor.foreign[convention] for convention in expected} == expected


def test_a_family_without_conventions_has_our_paths_in_keras():
    stages = (StageSpec(1, 3, 1, 1, 8, block="separable", se_ratio=0.0), StageSpec(1, 3, 2, 4, 16))
    baseline = Baseline(Family("nobody's", "relu"), stages, 8, 2, 0, 16, 0.0)
    table = tensor_table(scale_baseline(baseline, 1, 1, 16), 3)
    assert {name for tensor in table for name in tensor.foreign} == {"keras", "keras_h5"}
    names = [tensor.foreign["keras"] for tensor in table]
    assert len(set(names)) == len(names)
    assert names[0] == "stem_conv/kernel"
    assert "blocks_0_0_depthwise_conv/kernel" in names
    assert "blocks_1_0_se_reduce/bias" in names


def test_scope():
    assert official_scope(architecture("v2_s")) == "efficientnetv2-s"
    assert official_scope(architecture("b3")) == "efficientnet-b3"
    assert official_scope(architecture("lite0")) == "efficientnet-lite0"
