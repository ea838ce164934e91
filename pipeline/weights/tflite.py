"""TensorFlow Lite in four precisions: float32, float16, int8 weights, and calibrated int8 throughout.

Each file maps pixels from 0 to 255, of the weights' image size and any batch, to logits. The calibrated file takes uint8
pixels, the others float32. Quantisation costs accuracy, more with swish than with Lite's relu6; the export measures how much.
"""

# The type checker does not see what is in `tf.lite`: TensorFlow imports it when it is first used.

import dataclasses
import pathlib

import numpy as np

from pipeline.errors import TrainingError
from pipeline.weights.container import Weights
from pipeline.weights.forward import Forward
from pipeline.weights.keras_network import build_keras

FLOAT32, FLOAT16, DYNAMIC_INT8, CALIBRATED_INT8 = (
    "float32.tflite",
    "float16.tflite",
    "dynamic_int8.tflite",
    "int8.tflite",
)


def write(weights: Weights, folder: pathlib.Path, images: np.ndarray) -> None:
    """Writes the four files; `images`, uint8 `[images, size, size, 3]`, calibrate the last. Without images, only the first."""
    import tensorflow as tf

    network, size = build_keras(weights, weights.metadata.image_size), weights.metadata.image_size

    @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3], tf.float32, "pixels")])
    def logits(pixels):
        return {"logits": network(pixels, training=False)}

    def convert(name: str, **settings) -> None:
        # Without the model, its variables become constants; calibration cannot read variables.
        converter = tf.lite.TFLiteConverter.from_concrete_functions([logits.get_concrete_function()])  # pyrefly: ignore[implicit-import, missing-attribute]
        for key, value in settings.items():
            if key == "supported_types":
                converter.target_spec.supported_types = value
            elif key == "supported_ops":
                converter.target_spec.supported_ops = value
            else:
                setattr(converter, key, value)
        (folder / name).write_bytes(converter.convert())

    def calibration():
        for image in images:
            yield [image[None].astype(np.float32)]

    smaller = [tf.lite.Optimize.DEFAULT]  # pyrefly: ignore[implicit-import, missing-attribute]
    convert(FLOAT32)
    if not len(images):
        return
    convert(FLOAT16, optimizations=smaller, supported_types=[tf.float16])
    convert(DYNAMIC_INT8, optimizations=smaller)
    convert(
        CALIBRATED_INT8,
        optimizations=smaller,
        representative_dataset=calibration,
        supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS_INT8],  # pyrefly: ignore[implicit-import, missing-attribute]
        inference_input_type=tf.uint8,
    )


def rounded_to_half(weights: Weights) -> Weights:
    """Returns weights for which float32 computes what the float16 file does: each of its constants is rounded.

    The converter folds every BatchNorm into the kernel and the bias before it, and multiplies instead of dividing. Pixels
    become `(pixel * scale - mean) * factor`, as in `keras_network.py`.
    """
    arrays = dict(weights.arrays)
    epsilon = np.float32(weights.metadata.bn_epsilon)
    for path in [path for path in arrays if path.startswith("params/") and path.endswith("bn/scale")]:
        norm = path.removeprefix("params/").removesuffix("/scale")
        kernel, bias = f"params/{norm.removesuffix('bn')}conv/kernel", f"params/{norm}/bias"
        mean, variance = f"batch_stats/{norm}/mean", f"batch_stats/{norm}/var"
        factor = arrays[path] / np.sqrt(arrays[variance] + epsilon)
        arrays[kernel] = arrays[kernel] * factor
        arrays[bias] = arrays[bias] - arrays[mean] * factor
        arrays[path], arrays[mean] = np.ones_like(factor), np.zeros_like(factor)
        arrays[variance] = np.full_like(factor, 1 - epsilon)
    for path in arrays:
        if path.endswith(("/kernel", "/bias")):
            arrays[path] = _half(arrays[path])
            if not np.isfinite(arrays[path]).all():
                raise TrainingError(f"tflite was not exported: {path} is too large for float16")
    stated = weights.metadata.preprocessing
    scale = _half(1 / 255)
    mean_rgb = _half(np.divide(stated.mean_rgb, 255)) / scale
    stddev_rgb = 1 / (_half(1 / np.divide(stated.stddev_rgb, 255)) * scale)
    stated = dataclasses.replace(stated, mean_rgb=tuple(mean_rgb.tolist()), stddev_rgb=tuple(stddev_rgb.tolist()))
    return Weights(dataclasses.replace(weights.metadata, preprocessing=stated), arrays)


def _half(values: np.ndarray | float) -> np.ndarray:
    return np.asarray(values, np.float32).astype(np.float16).astype(np.float32)


def load(path: pathlib.Path, threads: int | None = None) -> Forward:
    """Opens one file in TensorFlow's interpreter, with `threads` threads; None: its default."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path), num_threads=threads)  # pyrefly: ignore[implicit-import, missing-attribute]
    prepared_for = []

    def forward(images: np.ndarray) -> np.ndarray:
        (pixels,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
        if prepared_for != [images.shape]:
            interpreter.resize_tensor_input(pixels["index"], images.shape)
            interpreter.allocate_tensors()
            prepared_for[:] = [images.shape]
        interpreter.set_tensor(pixels["index"], images.astype(pixels["dtype"]))
        interpreter.invoke()
        return interpreter.get_tensor(logits["index"]).copy()

    return forward
