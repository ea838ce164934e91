"""The network as a Keras model of stock layers, on raw pixels 0 to 255, for any image size.

Its layers have the names of `keras.applications`, so weights can be exchanged. It pads SAME for the actual image size, where
`keras.applications` pads for the size it was built for, so it is correct at odd sizes too. The Keras, SavedModel and TFLite
exports are made from it.
"""

import os

import numpy as np

from pipeline.errors import ConfigError
from pipeline.model.scaling import architecture
from pipeline.model.specs import Family
from pipeline.weights.assembly import assemble
from pipeline.weights.container import Weights


def build_keras(weights: Weights, image_size: int | None = None):
    """Builds the model, from pixels `[batch, height, width, 3]` to logits `[batch, classes]`, and sets its weights.

    Args:
      weights: Weights of any variant.
      image_size: A fixed height and width; by default they are free.

    Returns:
      A `keras.Model`.

    Raises:
      ConfigError: Keras is set to another backend than TensorFlow, whose formats these are.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"Keras uses {keras.backend.backend()}: this format needs KERAS_BACKEND=tensorflow")
    keras.backend.clear_session()  # so that the numbers of unnamed layers start over
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    network = architecture(weights.metadata.variant)
    logits = assemble(network, _KerasLayers(keras, weights, network.family), pixels)
    model = keras.Model(pixels, logits, name=f"efficientnet_{network.name}")
    arrays = weights.in_convention("keras")
    for variable in model.weights:
        if variable.path in arrays:
            variable.assign(arrays.pop(variable.path).reshape(variable.shape))
    if arrays:
        raise ValueError(f"the Keras model has no {', '.join(arrays)}")
    return model


class _KerasLayers:
    """Makes Keras layers; see `assembly.Builder`."""

    def __init__(self, keras, weights: Weights, family: Family):
        self._keras = keras
        self._layers = keras.layers
        self._metadata = weights.metadata
        self._tensors = {tensor.path: tensor for tensor in weights.metadata.table}
        self._activation = getattr(keras.activations, family.activation)
        self._pads = family.padding == "symmetric"

    def normalize(self, pixels):
        scaled = self._layers.Rescaling(1 / 255, name="rescaling_of_0_to_255")(pixels)  # seen in model.summary()
        layer = self._layers.Normalization(name="normalization")
        normalized = layer(scaled)
        preprocessing = self._metadata.preprocessing
        layer.adapt_mean.assign(np.divide(preprocessing.mean_rgb, 255))
        layer.adapt_variance.assign(np.square(np.divide(preprocessing.stddev_rgb, 255)))
        layer.finalize_state()
        return normalized

    def conv(self, x, layer, strides=1, depthwise=False):
        kernel, bias = self._tensors[f"params/{layer}/kernel"], f"params/{layer}/bias" in self._tensors
        size = kernel.shape[0]
        if self._pads and size > 1:
            x = self._layers.ZeroPadding2D((size - 1) // 2, name=f"{self._plain(layer)}_pad")(x)
        padding = "valid" if self._pads else "same"
        options = {"strides": strides, "padding": padding, "use_bias": bias, "name": self._name(layer)}
        if depthwise:
            return self._layers.DepthwiseConv2D(kernel.shape[0], **options)(x)
        return self._layers.Conv2D(kernel.shape[-1], kernel.shape[0], **options)(x)

    def batch_norm(self, x, layer):
        return self._layers.BatchNormalization(
            epsilon=self._metadata.bn_epsilon, name=self._name(layer, "params/{}/scale")
        )(x)

    def activation(self, x, layer):
        return self._layers.Activation(self._activation, name=f"{self._plain(layer)}_activation")(x)

    def max_pool(self, x, layer):
        if self._pads:  # padding with zeros is right for the maximum, because a ReLU precedes it
            x = self._layers.ZeroPadding2D(1, name=f"{self._plain(layer)}_pad")(x)
        return self._layers.MaxPooling2D(3, 2, "valid" if self._pads else "same", name=self._plain(layer))(x)

    def gate(self, x, gate, layer):
        gate = self._layers.Activation("sigmoid", name=f"{self._plain(layer)}_sigmoid")(gate)
        return self._layers.Multiply(name=f"{self._plain(layer)}_excite")([x, gate])

    def mean(self, x, layer):
        return self._layers.GlobalAveragePooling2D(keepdims=True, name=self._plain(layer))(x)

    def add(self, x, y, layer):
        return self._layers.Add(name=f"{self._plain(layer)}_add")([x, y])

    def classify(self, features, layer):
        flat = self._layers.Flatten(name="flatten")(features)
        dropout = architecture(self._metadata.variant).dropout_rate
        flat = self._layers.Dropout(dropout, name="top_dropout")(flat)
        classes, name = self._metadata.num_classes, self._name(layer)
        if name == "conv_preds":  # MobileNet's classifier is a convolution, and its files number it as one
            pixel = self._layers.Reshape((1, 1, -1), name="reshape")(flat)
            return self._layers.Flatten(name="logits")(self._layers.Conv2D(classes, 1, name=name)(pixel))
        return self._layers.Dense(classes, name=name)(flat)

    def _name(self, layer: str, path: str = "params/{}/kernel") -> str:
        return self._tensors[path.format(layer)].foreign["keras"].split("/")[0]

    def _plain(self, layer: str) -> str:
        return layer.replace("/", "_")
