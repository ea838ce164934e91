"""The families beside EfficientNet: counts against published figures, logits against `keras.applications`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.model.counting import count_architecture
from pipeline.model.families import VARIANTS
from pipeline.model.network import Network
from pipeline.model.scaling import architecture, scale_baseline
from pipeline.weights.names import tensor_table
from tests.model import keras_reference

CLASSES = 11
COMPILE_FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

# Trainable parameters, moving statistics, multiply-adds in millions at the evaluation size. V2: the sums of the first two are
# asserted in google/automl, effnetv2_model_test.py. ResNet and MobileNet: keras.applications, torchvision.
PUBLISHED = {
    "v2_b0": (7_139_704, 60_608, 718),
    "v2_b1": (8_141_052, 71_072, 1_197),
    "v2_b2": (10_096_086, 82_288, 1_698),
    "v2_b3": (14_358_406, 109_216, 3_011),
    "v2_s": (21_458_488, 153_872, 8_366),
    "v2_m": (54_139_356, 292_032, 24_582),
    "v2_l": (118_515_272, 512_576, 56_080),
    "v2_xl": (208_119_808, 777_024, 93_353),
    "mobilenet_v1": (4_231_976, 21_888, 569),
    "mobilenet_v2": (3_504_872, 34_112, 301),
    "resnet50": (25_557_032, 53_120, 4_089),
    "resnet101": (44_549_160, 105_344, 7_801),
    "resnet152": (60_192_808, 151_424, 11_514),
}


@pytest.mark.parametrize("variant", PUBLISHED)
def test_specification_and_network_have_the_published_counts(variant):
    params, batch_stats, million_macs = PUBLISHED[variant]
    arch = architecture(variant)
    count = count_architecture(arch, 1000)
    assert (count.params, count.batch_stats) == (params, batch_stats)
    assert round(count.macs / 1e6) == million_macs
    model = Network(arch, num_classes=1000)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda rng, x: model.init(rng, x, train=False), jax.random.key(0), images)
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in variables.items()}
    assert sizes == {"params": params, "batch_stats": batch_stats}


@pytest.mark.parametrize(("variant", "params"), [("v2_s", 48_158_371), ("v2_b0", 33_839_587), ("v2_xl", 234_819_691)])
def test_counts_with_the_classes_of_imagenet_21k(variant, params):
    assert count_architecture(architecture(variant), 21_843).params == params


@pytest.mark.parametrize(
    ("variant", "train_size", "million_macs"),
    [("v2_b0", 192, 528), ("v2_b3", 240, 1_908), ("v2_s", 300, 5_308), ("v2_m", 384, 15_737), ("v2_l", 384, 35_899)],
)
def test_multiply_adds_at_the_training_size(variant, train_size, million_macs):
    assert round(count_architecture(architecture(variant), 1000, train_size).macs / 1e6) == million_macs


@pytest.mark.parametrize(
    ("variant", "depth", "width", "resolution", "params", "million_macs"),
    [  # arXiv 1905.11946, tables 3 and 7; counted, because the paper prints two digits (and swaps two rows of ResNet)
        ("mobilenet_v1", 1, 2, 224, 14_742_120, 2_216),
        ("mobilenet_v1", 1, 1, 448, 4_231_976, 2_272),
        ("mobilenet_v1", 1.4, 1.2, 288, 8_677_512, 2_240),
        ("mobilenet_v2", 4, 1, 224, 12_051_800, 1_220),
        ("mobilenet_v2", 1, 2, 224, 11_258_088, 1_137),
        ("mobilenet_v2", 1.4, 1.2, 291, 7_987_552, 1_440),
        ("resnet50", 4, 1, 224, 89_824_040, 14_570),
        ("resnet50", 1, 2, 224, 98_004_072, 16_120),
        ("resnet50", 1, 1, 448, 25_557_032, 16_350),
        ("b0", 4, 1, 224, 20_091_856, 1_575),
        ("b0", 1, 2, 224, 18_122_720, 1_450),
        ("b0", 1.4, 1.2, 291, 12_233_232, 1_800),
    ],
)
def test_scaled_baselines_cost_what_was_counted(variant, depth, width, resolution, params, million_macs):
    scaled = scale_baseline(VARIANTS[variant].baseline, width, depth, resolution)
    count = count_architecture(scaled, 1000)
    assert count.params == params
    assert count.macs / 1e6 == pytest.approx(million_macs, rel=0.005)


def _compare_with_keras(variant, size, build, epsilon=1e-3):
    """Loads the same random weights into both networks and compares their logits.

    Convolutions that have a bias in Keras and none here get one, which our moving mean takes off again.
    """
    model = Network(architecture(variant), CLASSES, survival_probability=1.0, dropout_rate=0.0, bn_epsilon=epsilon)
    shapes = jax.eval_shape(lambda rng: model.init(rng, jnp.zeros((1, 64, 64, 3)), train=False), jax.random.key(0))
    variables = keras_reference.random_variables(shapes)
    reference = build(weights=None, input_shape=(size, size, 3), classes=CLASSES, classifier_activation=None)
    arrays = {}
    for tensor in tensor_table(model.architecture, CLASSES):
        array = keras_reference.leaf(variables, tensor.path)
        arrays[tensor.foreign["keras"]] = tensor.to_convention(array, "keras")
    rng = np.random.default_rng(1)
    for path in [variable.path for variable in reference.weights if variable.path.endswith("_conv/bias")]:
        mean = path.replace("_conv/bias", "_bn/moving_mean")
        if mean in arrays:
            arrays[path] = rng.normal(scale=0.2, size=arrays[mean].shape)
            arrays[mean] = arrays[mean] + arrays[path]
    for variable in reference.weights:
        if not variable.path.startswith("normalization"):
            variable.assign(arrays.pop(variable.path).reshape(variable.shape))
    assert not arrays
    images = np.random.default_rng(size).normal(size=(1, size, size, 3)).astype(np.float32)
    expected = np.asarray(reference(keras_reference.unscaled(reference, images), training=False))
    actual = jax.jit(functools.partial(model.apply, train=False), compiler_options=COMPILE_FAST)(variables, images)
    assert np.abs(expected).max() > 0.1
    assert np.abs(actual - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("variant", "size"),
    [
        *(("v2_b0", size) for size in (224, 65, 97)),
        *(("v2_b1", 64), ("v2_b2", 64), ("v2_b3", 75), ("v2_s", 64), ("v2_m", 64), ("v2_l", 64)),
        *(("mobilenet_v1", 224), ("mobilenet_v2", 224), ("mobilenet_v2", 97)),
        *(("resnet50_v1", 224), ("resnet50_v1", 97), ("resnet101_v1", 64), ("resnet152_v1", 64)),
    ],
)
def test_logits_equal_keras(variant, size):
    import keras

    names = {"mobilenet_v1": "MobileNet", "mobilenet_v2": "MobileNetV2"}
    if variant.startswith("v2_"):
        name = f"EfficientNetV2{variant.removeprefix('v2_').upper()}"
    else:
        name = names.get(variant, f"ResNet{variant.removeprefix('resnet').removesuffix('_v1')}")
    _compare_with_keras(variant, size, getattr(keras.applications, name), architecture(variant).family.bn_epsilon)
