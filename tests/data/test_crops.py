"""Crop boxes against the published rules and against TensorFlow's sampler."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from pipeline.data import crops

SIZES = {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "b4": 380, "b5": 456, "b6": 528, "b7": 600}


def test_b7_crops_356_pixels_of_500_by_375():
    assert crops.centre_crop_box(375, 500, 600 / 632) == (10, 72, 356, 356)


@pytest.mark.parametrize("size", SIZES.values())
@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (224, 224), (17, 1000), (2848, 4288)])
def test_centre_crop_equals_the_published_expression(height, width, size):
    side = tf.cast((size / (size + 32)) * tf.cast(tf.minimum(height, width), tf.float32), tf.int32)
    expected = ((height - side) + 1) // 2, ((width - side) + 1) // 2, side, side
    assert crops.centre_crop_box(height, width, size / (size + 32)) == tuple(int(value) for value in expected)


def test_centre_crop_of_a_thin_image_has_a_pixel():
    assert crops.centre_crop_box(1, 900, 224 / 256) == (0, 450, 1, 1)


def tensorflow_crop_boxes(height, width, area, covers, count):
    """Draws crop boxes as the published code does; the whole image stands for no crop box."""

    def draw(index):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            [height, width, 3],
            bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            seed=[7, index],
            min_object_covered=covers,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=area,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.stack([begin[0], begin[1], size[0], size[1]])

    boxes = tf.data.Dataset.range(count).map(lambda index: draw(tf.cast(index, tf.int32)))
    return np.array(list(boxes.as_numpy_iterator()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width", "area", "covers"),
    [
        (375, 500, (0.08, 1.0), 0.1),
        (500, 333, (0.08, 1.0), 0.1),
        (32, 32, (0.25, 0.5), 0.1),
        (60, 400, (0.08, 1.0), 0.1),
        (375, 500, (0.05, 1.0), 0.0),  # EfficientNetV2's
    ],
)
def test_random_crops_are_distributed_as_tensorflows(height, width, area, covers):
    count = 6000
    theirs = tensorflow_crop_boxes(height, width, area, covers, count)
    rng = np.random.default_rng(0)
    drawn = [crops.random_crop_box(height, width, area, rng, covers) for _ in range(count)]
    ours = np.array([(0, 0, height, width) if box is None else box for box in drawn])
    assert np.all(ours[:, :2] >= 0)
    assert np.all(ours[:, :2] + ours[:, 2:] <= (height, width))
    columns = {
        "top": lambda boxes: boxes[:, 0],
        "left": lambda boxes: boxes[:, 1],
        "height": lambda boxes: boxes[:, 2],
        "width": lambda boxes: boxes[:, 3],
        "area": lambda boxes: boxes[:, 2] * boxes[:, 3],
        "aspect": lambda boxes: boxes[:, 3] / boxes[:, 2],
        "slack below": lambda boxes: height - boxes[:, 0] - boxes[:, 2],
    }
    for name, column in columns.items():
        assert stats.ks_2samp(column(ours), column(theirs)).pvalue > 1e-3, name
    whole = [int((boxes[:, 2] * boxes[:, 3] == height * width).sum()) for boxes in (ours, theirs)]
    assert stats.fisher_exact([whole, [count - part for part in whole]]).pvalue > 1e-3


def test_no_crop_fits_a_line():
    rng = np.random.default_rng(0)
    assert all(crops.random_crop_box(1, 10_000, (0.08, 1.0), rng) is None for _ in range(100))
