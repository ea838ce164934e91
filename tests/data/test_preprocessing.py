"""The whole way from bytes to pixels, against the published pipeline built from TensorFlow ops."""

import pickle

import cv2
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_images

from configs.recipe import get_config
from pipeline.data import preprocessing
from pipeline.errors import ConfigError

PHOTOGRAPH = cv2.resize(load_sample_images().images[0], (500, 375), interpolation=cv2.INTER_AREA)
JPEG = cv2.imencode(".jpg", PHOTOGRAPH[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
EXAMPLE = {"image": JPEG, "label": 7, "record": 12}


def data_config(**changes):
    config = get_config().data
    config.update(changes)
    return config


@pytest.mark.parametrize("size", [224, 225, 300, 456, 600])
def test_evaluation_is_the_published_one_within_a_grey_level(size):
    height, width = tf.io.extract_jpeg_shape(JPEG)[:2]
    side = tf.cast((size / (size + 32)) * tf.cast(tf.minimum(height, width), tf.float32), tf.int32)
    box = tf.stack([((height - side) + 1) // 2, ((width - side) + 1) // 2, side, side])
    cropped = tf.image.decode_and_crop_jpeg(JPEG, box, channels=3)
    expected = tf.clip_by_value(tf.compat.v1.image.resize_bicubic([cropped], [size, size])[0], 0, 255).numpy()
    example = preprocessing.eval_transform(data_config(), size)(EXAMPLE)
    difference = np.abs(example["image"] - expected)
    # decode_and_crop_jpeg smooths chroma without the neighbours of the crop box: its outer columns differ.
    inside = slice(3 * size // 100, -3 * size // 100)
    assert difference[:, inside].max() <= 0.51
    assert example["image"].shape == (size, size, 3)


@pytest.mark.parametrize(("crop", "share"), [("fraction", 0.875), ("none", None)])
def test_other_evaluation_crops(crop, share):
    transform = preprocessing.eval_transform(data_config(eval_crop=crop, resize="bilinear"), 224)
    pixels = tf.io.decode_jpeg(JPEG)
    if share:
        pixels = pixels[24 : 24 + 328, 86 : 86 + 328]  # 0.875 x 375 = 328.1
    expected = tf.image.resize(pixels, [224, 224]).numpy()
    assert np.abs(transform(EXAMPLE)["image"] - expected).max() <= 0.52


def test_types_of_an_example():
    example = preprocessing.train_transform(data_config(), 64)(EXAMPLE, np.random.default_rng(0))
    assert {key: (value.dtype.name, value.shape) for key, value in example.items()} == {
        "image": ("uint8", (64, 64, 3)),
        "label": ("int32", ()),
        "weight": ("float32", ()),
        "record": ("int64", ()),
    }
    assert example["image"].flags.c_contiguous
    assert (example["label"], example["weight"], example["record"]) == (7, 1, 12)


def test_training_images_as_in_evaluation():
    config = data_config(crop="evaluation", augment="none", train_resize="exact")
    evaluated = preprocessing.eval_transform(config, 64)(EXAMPLE)["image"]
    transform = preprocessing.train_transform(config, 64)
    drawn = [transform(EXAMPLE, np.random.default_rng(seed))["image"] for seed in range(8)]
    mirrored = [np.array_equal(image, evaluated[:, ::-1]) for image in drawn]
    assert all(flip or np.array_equal(image, evaluated) for flip, image in zip(mirrored, drawn))
    assert 0 < sum(mirrored) < 8


@pytest.mark.parametrize("data", [b"", b"not an image", JPEG[: len(JPEG) // 2]])
@pytest.mark.parametrize("crop", ["random_resized", "shift", "evaluation"])
def test_a_damaged_image_has_no_weight(data, crop):
    example = {"image": data, "label": 7, "record": 12}
    config = data_config(crop=crop)
    for result in (
        preprocessing.eval_transform(config, 64)(example),
        preprocessing.train_transform(config, 64)(example, np.random.default_rng(0)),
    ):
        assert result["weight"] == 0
        assert (result["label"], result["record"]) == (7, 12)
        assert not result["image"].any()


@pytest.mark.parametrize("resize", ["exact", "fast"])
def test_training_without_augmentation_is_a_crop_of_the_image(resize):
    """Draws the same crop box again and lets TensorFlow cut and resize it."""
    from pipeline.data import crops

    transform = preprocessing.train_transform(data_config(augment="none", train_resize=resize, flip=False), 224)
    pixels = tf.io.decode_jpeg(JPEG)
    for seed in range(12):
        top, left, height, width = crops.random_crop_box(375, 500, (0.08, 1.0), np.random.default_rng(seed))
        crop = pixels[top : top + height, left : left + width]
        expected = tf.compat.v1.image.resize_bicubic([crop], [224, 224])[0].numpy().clip(0, 255)
        difference = np.abs(transform(EXAMPLE, np.random.default_rng(seed))["image"] - expected)
        if resize == "exact":
            assert difference.max() <= 0.5
        else:
            assert difference.mean() < 12


def test_flips_half_of_the_images():
    config = data_config(augment="none", crop="shift", shift_fraction=0.0)
    transform = preprocessing.train_transform(config, 32)
    upright = preprocessing.eval_transform(data_config(eval_crop="none"), 32)(EXAMPLE)["image"].astype(int)
    flipped = 0
    for seed in range(200):
        image = transform(EXAMPLE, np.random.default_rng(seed))["image"]
        distances = [np.abs(image - other).mean() for other in (upright, upright[:, ::-1])]
        assert min(distances) < 0.3 * max(distances)
        flipped += int(np.argmin(distances))
    assert 75 <= flipped <= 125


def test_shift_moves_by_at_most_the_fraction_and_fills_with_black():
    white = cv2.imencode(".png", np.full((28, 28, 3), 255, np.uint8))[1].tobytes()
    config = data_config(augment="none", crop="shift", shift_fraction=0.125)
    transform = preprocessing.train_transform(config, 32)
    shifts = set()
    for seed in range(400):
        image = transform({"image": white, "label": 0, "record": 0}, np.random.default_rng(seed))["image"]
        rows, columns = np.flatnonzero(image[..., 0].any(axis=1)), np.flatnonzero(image[..., 0].any(axis=0))
        assert set(np.unique(image)) <= {0, 255}
        shifts.add((rows[0] or rows[-1] - 31, columns[0] or columns[-1] - 31))
    assert {shift for shift, _ in shifts} == {shift for _, shift in shifts} == set(range(-4, 5))


def test_augmentation_is_that_of_the_config():
    plain = preprocessing.train_transform(data_config(augment="none"), 224)
    for augment in ("autoaugment_v0", "randaugment"):
        transform = preprocessing.train_transform(data_config(augment=augment), 224)
        changed = 0
        for seed in range(30):
            before, after = (t(EXAMPLE, np.random.default_rng(seed))["image"] for t in (plain, transform))
            changed += not np.array_equal(before, after)
        assert 15 <= changed <= 30


def test_same_generator_same_example_also_after_pickling():
    transform = preprocessing.train_transform(data_config(), 64)
    copy = pickle.loads(pickle.dumps(transform))
    first, second = (t(EXAMPLE, np.random.default_rng([3, 5]))["image"] for t in (transform, copy))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, transform(EXAMPLE, np.random.default_rng([3, 6]))["image"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": "center"}, "config.data.crop is 'center'; expected one of random_resized, shift"),
        ({"augment": "autoaugment"}, "config.data.augment is 'autoaugment'; expected one of none, "),
        ({"augment_semantics": "exact"}, "expected one of published, clean"),
        ({"resize": "nearest"}, "expected one of bicubic_tf1, bicubic, bicubic_antialias, bilinear"),
        ({"eval_crop": "center"}, "expected one of padding, fraction, none"),
        ({"train_resize": "slow"}, "expected one of fast, exact"),
        (
            {"crop_area": (0.5, 1.5)},
            r"config.data.crop_area is \(0.5, 1.5\); expected 2 numbers, each number from 1e-06 to 1",
        ),
        (
            {"crop_area": (0.5, 0.2)},
            r"config.data.crop_area is \(0.5, 0.2\); expected 2 numbers, .*, none less than the one before",
        ),
        ({"eval_crop_fraction": 1.2}, "config.data.eval_crop_fraction is 1.2"),
        ({"augment": "randaugment", "randaugment_layers": -1}, "config.data.randaugment_layers is -1"),
    ],
)
def test_a_wrong_value_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        preprocessing.train_transform(data_config(**change), 64)
