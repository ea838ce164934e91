"""Converts the tensors of `keras.applications` where its networks differ from ours.

ResNet's convolutions have biases before a BatchNorm, which equal a smaller running mean. Its published weights take images as
blue, green, red, so the input channels of the first kernel are reversed. MobileNet's classifier is a 1x1 convolution. The
numbers are exact, apart from the rounding of that one subtraction.
"""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from pipeline.weights.stored import StoredTensor

_NAMED_BIAS = re.compile(r"(.+)_conv/bias")
_NUMBERED_CONV = re.compile(r"layers/conv2d(_\d+)?/vars/1")
_RESNET_STEM = (7, 7, 3, 64)


def without_habits(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Returns the tensors of a Keras file in the form of our networks; other networks' tensors stay as they are.

    Args:
      tensors: Tensors by the names of layers ("conv1_conv/kernel") or of Keras 3 ("layers/conv2d/vars/0").
    """
    found = dict(tensors)
    for bias, mean in _biases_before_batch_norm(tensors).items():
        found[mean] = _less(tensors[mean], found.pop(bias))
    for name, tensor in tensors.items():
        if tensor.shape == _RESNET_STEM and name in ("conv1_conv/kernel", "layers/conv2d/vars/0"):
            found[name] = _read_by(tensor, lambda array: array[:, :, ::-1])
    for name in _convolutional_classifier(tensors):
        found[name] = _read_by(tensors[name], lambda array: array[0, 0], shape=tensors[name].shape[2:])
    return found


def _biases_before_batch_norm(tensors: dict[str, StoredTensor]) -> dict[str, str]:
    """Returns the name of the running mean that each bias is subtracted from, by the bias's name."""
    named = {match[0]: f"{match[1]}_bn/moving_mean" for match in map(_NAMED_BIAS.fullmatch, tensors) if match}
    if named:
        return {bias: mean for bias, mean in named.items() if mean in tensors}
    numbered = {match[0]: match[1] or "" for match in map(_NUMBERED_CONV.fullmatch, tensors) if match}
    means = {bias: f"layers/batch_normalization{number}/vars/2" for bias, number in numbered.items()}
    # Squeeze-and-excitation has biases too. In a network without it, each convolution with a bias has a BatchNorm.
    kernels = sum(name.startswith("layers/conv2d") and name.endswith("/vars/0") for name in tensors)
    norms = sum(name.startswith("layers/batch_normalization") and name.endswith("/vars/2") for name in tensors)
    return means if len(means) == kernels == norms else {}


def _convolutional_classifier(tensors: dict[str, StoredTensor]) -> list[str]:
    """Returns the name of the classifier's kernel if the classifier is a 1x1 convolution."""
    if "conv_preds/kernel" in tensors:
        names = ["conv_preds/kernel"]
    elif any(name.startswith("layers/dense") for name in tensors):
        return []
    else:
        numbers = {name: name.split("/")[1].removeprefix("conv2d").removeprefix("_") for name in tensors}
        convs = {name: int(number or 0) for name, number in numbers.items() if _is_conv_kernel(name)}
        names = sorted(convs, key=convs.__getitem__)[-1:]
    return [name for name in names if tuple(tensors[name].shape[:2]) == (1, 1) and len(tensors[name].shape) == 4]


def _is_conv_kernel(name: str) -> bool:
    return re.fullmatch(r"layers/conv2d(_\d+)?/vars/0", name) is not None


def _less(mean: StoredTensor, bias: StoredTensor) -> StoredTensor:
    return _read_by(mean, lambda array: np.asarray(array, np.float64) - np.asarray(bias.read(), np.float64))


def _read_by(
    tensor: StoredTensor, change: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...] | None = None
) -> StoredTensor:
    return dataclasses.replace(tensor, shape=shape or tensor.shape, read=lambda: change(np.asarray(tensor.read())))
