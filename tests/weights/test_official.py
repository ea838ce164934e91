import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import ConfigError, DataError
from pipeline.weights import official
from pipeline.weights.metadata import EMA, RAW
from pipeline.weights.opening import Overrides, open_weights
from tests.weights.samples import random_weights, same

AVERAGE = "/ExponentialMovingAverage"


def save(folder, arrays):
    """Writes a checkpoint as the authors' code does, by TensorFlow 1's Saver."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {
            name: tf.compat.v1.Variable(np.asarray(array), name=name.replace("/", "_"), use_resource=True)
            for name, array in arrays.items()
        }
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(session, str(folder / "model.ckpt"), write_meta_graph=False)


def in_checkpoint(weights, suffix="", scope="efficientnet-b0"):
    return {f"{scope}/{name}{suffix}": array for name, array in weights.in_convention("official").items()}


@pytest.mark.parametrize("kind", [EMA, RAW])
def test_round_trip(b0, tmp_path, kind):
    weights = random_weights("b0", image_size=64, kind=kind, step=11)
    official.write(weights, tmp_path)
    found = open_weights(str(tmp_path))
    assert same(found, weights)
    assert found.metadata.kind == kind


@pytest.mark.parametrize("name", ["b0 [1]/model", "a\\b/model", "b0/model[1]"])
def test_names_that_tensorflow_takes_for_patterns_are_names(b0, tmp_path, name):
    prefix = tmp_path / name
    prefix.parent.mkdir()
    official.write(b0, tmp_path)
    for path in tmp_path.glob("model.ckpt.*"):
        path.rename(f"{prefix}{path.suffix}")
    assert same(open_weights(str(prefix)), b0)


def test_names_in_the_file_are_the_authors(b0, tmp_path):
    official.write(b0, tmp_path)
    names = dict(tf.train.list_variables(str(tmp_path / "model.ckpt")))
    assert len(names) == 311
    assert names["efficientnet-b0/stem/tpu_batch_normalization/moving_variance"] == [32]
    assert names["efficientnet-b0/blocks_0/depthwise_conv2d/depthwise_kernel"] == [3, 3, 32, 1]
    assert names["efficientnet-b0/blocks_1/se/conv2d/kernel"] == [1, 1, 96, 4]
    assert names["efficientnet-b0/head/dense/kernel"] == [1280, 10]


def test_averages_are_chosen_unless_raw_is_asked_for(b0, tmp_path):
    averages = {name: array + 1 for name, array in in_checkpoint(b0, AVERAGE).items()}
    slots = {f"{name}/RMSProp_1": array for name, array in in_checkpoint(b0).items() if "kernel" in name}
    save(tmp_path, in_checkpoint(b0) | averages | slots | {"global_step": np.int64(5)})
    found = open_weights(str(tmp_path))
    assert found.metadata.kind == EMA
    assert np.array_equal(
        found.arrays["batch_stats/head/bn/mean"], b0.arrays["batch_stats/head/bn/mean"] + np.float32(1)
    )
    assert same(open_weights(str(tmp_path), Overrides(kind=RAW)), b0)


def test_other_habits_of_published_checkpoints(b0, tmp_path):
    """Averages alone (as of L2), and the BatchNorm scope of LARS training."""
    arrays = in_checkpoint(b0, AVERAGE)
    save(tmp_path, {name.replace("tpu_batch_norm", "batch_norm"): array for name, array in arrays.items()})
    found = open_weights(str(tmp_path / "model.ckpt"))
    assert same(found, b0)
    assert found.metadata.kind == EMA
    with pytest.raises(ConfigError, match="no raw variables"):
        open_weights(str(tmp_path), Overrides(kind=RAW))


def test_incomplete_averages_are_refused_and_not_filled_up(b0, tmp_path):
    arrays = in_checkpoint(b0, AVERAGE)
    del arrays[f"efficientnet-b0/stem/tpu_batch_normalization/moving_mean{AVERAGE}"]
    save(tmp_path, in_checkpoint(b0) | arrays)
    with pytest.raises(DataError, match=r"stem/tpu_batch_normalization/moving_mean \(32,\) is missing"):
        open_weights(str(tmp_path))


def test_preprocessing_of_the_families(tmp_path, b0):
    save(tmp_path, in_checkpoint(b0))
    found = open_weights(str(tmp_path), Overrides(preprocessing="advprop")).metadata.preprocessing
    # AdvProp's network sees x * 2 / 255 - 1
    assert [(255 - mean) / deviation for mean, deviation in zip(found.mean_rgb, found.stddev_rgb)] == [1, 1, 1]
    lite = random_weights("lite0", image_size=32)
    (tmp_path / "lite").mkdir()
    official.write(lite, tmp_path / "lite")
    found = open_weights(str(tmp_path / "lite")).metadata
    assert (found.variant, found.preprocessing.mean_rgb, found.preprocessing.stddev_rgb) == (
        "lite0",
        (127.0,) * 3,
        (128.0,) * 3,
    )


def test_damage_and_other_networks(b0, tmp_path):
    official.write(b0, tmp_path)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"model\.ckpt is cut off: its variables take .* have 1,000"):
        open_weights(str(tmp_path))
    index = tmp_path / "model.ckpt.index"
    index.write_bytes(index.read_bytes()[:300])
    with pytest.raises(DataError, match=r"model\.ckpt cannot be read"):
        open_weights(str(tmp_path))
    (tmp_path / "other").mkdir()
    save(tmp_path / "other", {"resnet/conv/kernel": np.zeros((3, 3), np.float32)})
    with pytest.raises(DataError, match="holds no network that is known here"):
        open_weights(str(tmp_path / "other"))
    with pytest.raises(DataError, match="does not exist"):
        open_weights(str(tmp_path / "nothing"))


def test_networks_that_the_authors_do_not_have(weights, tmp_path):
    with pytest.raises(ConfigError, match="no network tiny"):
        official.write(weights, tmp_path)
