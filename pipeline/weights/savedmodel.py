"""The TensorFlow SavedModel: bytes of image files in, probabilities and names out; or pixels in, logits out.

The model includes the preprocessing of evaluation in TensorFlow's operations, so a server takes files as they are. The network
consists of TensorFlow's own layers, which converters (TF.js, tf2onnx) and servers without XLA understand.
"""

import json
import pathlib

import numpy as np

from pipeline.storage import literal_names
from pipeline.weights.container import Weights
from pipeline.weights.forward import Forward
from pipeline.weights.keras_network import build_keras
from pipeline.weights.metadata import PIXELS, Metadata


def write(weights: Weights, folder: pathlib.Path) -> None:
    """Writes the model with four signatures.

    "serving_default": `pictures`, string `[batch]`, to `probabilities`, float32 `[batch, classes]`, and `name`, string
    `[batch]`, of the most probable class. "pixels": `pixels`, float32 `[batch, height, width, 3]` in 0..255, to `logits`;
    pixels divided by 255 are an error. "class_names": nothing to `class_names`, string `[classes]`. "metadata": nothing to
    `json`, string, which says how images are prepared and what pixels are.
    """
    import tensorflow as tf

    metadata, network = weights.metadata, build_keras(weights)
    names = tf.constant([metadata.name_of(label) for label in range(metadata.num_classes)])
    module = tf.Module()
    module.network = network  # pyrefly: ignore[missing-attribute] - a module tracks what it is given

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "pictures")])
    def classify(pictures):
        prepare = lambda data: prepare_image(data, metadata)
        size = metadata.image_size
        pixels = tf.map_fn(prepare, pictures, fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32))
        probabilities = tf.nn.softmax(network(pixels, training=False))
        return {"probabilities": probabilities, "name": tf.gather(names, tf.argmax(probabilities, axis=-1))}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, "pixels")])
    def logits(pixels):
        with tf.control_dependencies([_assert_range(pixels)]):
            pixels = tf.identity(pixels)
        return {"logits": network(pixels, training=False)}

    @tf.function(input_signature=[])
    def class_names():
        return {"class_names": tf.identity(names)}

    @tf.function(input_signature=[])
    def stated():
        return {"json": tf.constant(json.dumps(metadata.to_json(), allow_nan=False))}

    signatures = {"serving_default": classify, "pixels": logits, "class_names": class_names, "metadata": stated}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _assert_range(pixels):
    """Returns an operation that fails for pixels divided by 255: none is above 1, and some are between 0 and 1.

    Images of only zeros and ones pass.
    """
    import tensorflow as tf

    divided = tf.reduce_any((pixels > 0) & (pixels < 1)) & tf.reduce_all(pixels <= 1)
    return tf.debugging.Assert(~divided, [f"the pixels are divided by 255, and this network takes {PIXELS}"])


def load(folder: pathlib.Path) -> Forward:
    """Opens the "pixels" signature."""
    import tensorflow as tf

    with literal_names.linked([folder]) as (readable,):
        loaded = tf.saved_model.load(str(readable))

    def forward(images: np.ndarray) -> np.ndarray:
        return loaded.signatures["pixels"](pixels=tf.constant(images, tf.float32))["logits"].numpy()

    return forward


def prepare_image(data, metadata: Metadata):
    """Preprocesses in TensorFlow as `data/preprocessing.py` does for evaluation: string [] to float32 `[size, size, 3]`."""
    import tensorflow as tf

    size, transform = metadata.image_size, metadata.eval_transform()
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    if transform.crop_share is not None:
        shape = tf.shape(image)
        shorter = tf.cast(tf.minimum(shape[0], shape[1]), tf.float32)
        side = tf.maximum(1, tf.cast(np.float32(transform.crop_share) * shorter, tf.int32))
        top, left = (shape[0] - side + 1) // 2, (shape[1] - side + 1) // 2
        image = tf.slice(image, [top, left, 0], [side, side, 3])
    batch = tf.cast(image[None], tf.float32)
    if transform.resize == "bicubic_tf1":
        resized = tf.raw_ops.ResizeBicubic(images=batch, size=[size, size])
    else:
        method, antialias = {
            "bicubic": ("bicubic", False),
            "bicubic_antialias": ("bicubic", True),
            "bilinear": ("bilinear", False),
        }[transform.resize]
        resized = tf.image.resize(batch, [size, size], method=method, antialias=antialias)
    return tf.round(tf.clip_by_value(resized[0], 0.0, 255.0))
