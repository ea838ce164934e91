"""The published augmentation operations composed from TensorFlow primitives: what `pipeline/data` is compared with.

Written from the description of the published code, with TensorFlow doing every conversion, wrap-around and rounding. The
sign of geometric operations is an argument here. One op is not taken as it is: `depthwise_conv2d` sums in another order
where oneDNN is compiled in, so Sharpness adds its nine products one by one, which is the order without oneDNN.
"""

import math

import tensorflow as tf

_GREY = 128


def apply(name: str, image: tf.Tensor, level: float, sign: int, translate_constant: float) -> tf.Tensor:
    """Applies an operation at a level (of 10) to uint8 `[height, width, 3]`; all but Cutout."""
    magnitude = level / 10.0
    enhance = magnitude * 1.8 + 0.1
    return {
        "AutoContrast": lambda: _by_channel(_stretch, image),
        "Equalize": lambda: _by_channel(_equalize, image),
        "Invert": lambda: 255 - image,
        "Rotate": lambda: _rotate(image, sign * magnitude * 30.0),
        "Posterize": lambda: _posterize(image, int(magnitude * 4)),
        "Solarize": lambda: tf.where(image < int(magnitude * 256), image, 255 - image),
        "Color": lambda: _blend(tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image)), image, enhance),
        "Contrast": lambda: _contrast(image, enhance),
        "Brightness": lambda: _blend(tf.zeros_like(image), image, enhance),
        "Sharpness": lambda: _sharpness(image, enhance),
        "ShearX": lambda: _project(image, [1.0, sign * magnitude * 0.3, 0.0, 0.0, 1.0, 0.0]),
        "ShearY": lambda: _project(image, [1.0, 0.0, 0.0, sign * magnitude * 0.3, 1.0, 0.0]),
        "TranslateX": lambda: _project(image, [1.0, 0.0, -sign * magnitude * translate_constant, 0.0, 1.0, 0.0]),
        "TranslateY": lambda: _project(image, [1.0, 0.0, 0.0, 0.0, 1.0, -sign * magnitude * translate_constant]),
        "SolarizeAdd": lambda: _solarize_add(image, int(magnitude * 110)),
    }[name]()


def _blend(start, end, factor):
    if factor in (0.0, 1.0):
        return end if factor else start
    start, end = tf.cast(start, tf.float32), tf.cast(end, tf.float32)
    blended = start + factor * (end - start)
    if not 0.0 < factor < 1.0:
        blended = tf.clip_by_value(blended, 0.0, 255.0)
    return tf.cast(blended, tf.uint8)


def _by_channel(function, image):
    return tf.stack([function(image[..., channel]) for channel in range(3)], axis=-1)


def _stretch(channel):
    low, high = tf.cast(tf.reduce_min(channel), tf.float32), tf.cast(tf.reduce_max(channel), tf.float32)
    if not high > low:
        return channel
    scale = 255.0 / (high - low)
    return tf.cast(tf.clip_by_value(tf.cast(channel, tf.float32) * scale + -low * scale, 0.0, 255.0), tf.uint8)


def _equalize(channel):
    channel = tf.cast(channel, tf.int32)
    histogram = tf.histogram_fixed_width(channel, [0, 255], nbins=256)
    filled = tf.boolean_mask(histogram, histogram != 0)
    step = (tf.reduce_sum(filled) - filled[-1]) // 255
    if step == 0:
        return tf.cast(channel, tf.uint8)
    table = (tf.cumsum(histogram) + step // 2) // step
    table = tf.clip_by_value(tf.concat([[0], table[:-1]], 0), 0, 255)
    return tf.cast(tf.gather(table, channel), tf.uint8)


def _posterize(image, bits):
    shift = 8 - bits
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def _solarize_add(image, addition):
    added = tf.cast(tf.clip_by_value(tf.cast(image, tf.int64) + addition, 0, 255), tf.uint8)
    return tf.where(image < 128, added, image)


def _contrast(image, factor):
    grey = tf.cast(tf.image.rgb_to_grayscale(image), tf.int32)
    histogram = tf.histogram_fixed_width(grey, [0, 255], nbins=256)
    mean = tf.reduce_sum(tf.cast(histogram, tf.float32)) / 256.0
    flat = tf.clip_by_value(tf.ones_like(grey, tf.float32) * mean, 0.0, 255.0)
    return _blend(tf.image.grayscale_to_rgb(tf.cast(flat, tf.uint8)), image, factor)


def _sharpness(image, factor):
    height, width = image.shape[:2]
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13.0
    pixels = tf.cast(image, tf.float32)
    total = tf.zeros([height - 2, width - 2, 3])
    for row in range(3):
        for column in range(3):
            total += pixels[row : height - 2 + row, column : width - 2 + column] * kernel[row, column]
    smooth = tf.cast(tf.clip_by_value(total, 0.0, 255.0), tf.uint8)
    inside = tf.pad(tf.ones_like(smooth), [[1, 1], [1, 1], [0, 0]])
    return _blend(tf.where(inside == 1, tf.pad(smooth, [[1, 1], [1, 1], [0, 0]]), image), image, factor)


def _rotate(image, degrees):
    angle = tf.constant(degrees * math.pi / 180.0, tf.float32)
    last_row, last_column = tf.cast(image.shape[0] - 1, tf.float32), tf.cast(image.shape[1] - 1, tf.float32)
    cos, sin = tf.cos(angle), tf.sin(angle)
    x_offset = (last_column - (cos * last_column - sin * last_row)) / 2.0
    y_offset = (last_row - (sin * last_column + cos * last_row)) / 2.0
    return _project(image, [cos, -sin, x_offset, sin, cos, y_offset])


def _project(image, transform):
    marked = tf.concat([image, tf.ones_like(image[..., :1])], axis=-1)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=marked[None],
        transforms=tf.cast(tf.stack([*transform, 0.0, 0.0]), tf.float32)[None],
        output_shape=image.shape[:2],
        fill_value=0.0,
        interpolation="NEAREST",
    )[0]
    return tf.where(moved[..., 3:] == 0, tf.constant(_GREY, tf.uint8), moved[..., :3])
