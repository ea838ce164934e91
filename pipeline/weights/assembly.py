"""The network once more, as a walk over its layers for whatever builds it elsewhere: Keras layers, ONNX nodes.

One function knows the order of the layers and where they branch; a `Builder` knows one framework. Layers are named by our
paths, which the table of names turns into the framework's own. The trained network is `model/efficientnet.py`; that both are
the same is what every export measures.
"""

from typing import Any, Protocol

from pipeline.model.specs import Architecture, BlockSpec

Value = Any  # what a framework passes between its layers


class Builder(Protocol):
    """Adds a layer to a network and returns its output; `layer` is our path, such as "blocks_1_0/expand_conv"."""

    def normalize(self, pixels: Value) -> Value:
        """Subtracts the mean of pixel values 0 to 255 and divides by their deviation."""

    def conv(self, x: Value, layer: str, strides: int = 1, depthwise: bool = False) -> Value:
        """Convolves, padded as TensorFlow's SAME, with the bias that the layer may have."""

    def batch_norm(self, x: Value, layer: str) -> Value:
        """Normalises with the running statistics."""

    def activation(self, x: Value, layer: str) -> Value:
        """Applies the network's activation function behind the layer."""

    def gate(self, x: Value, gate: Value, layer: str) -> Value:
        """Multiplies by the sigmoid of a `[batch, 1, 1, channels]` value."""

    def mean(self, x: Value, layer: str) -> Value:
        """Averages over the picture, keeping its axes."""

    def add(self, x: Value, y: Value, layer: str) -> Value:
        """Adds the input of a block to its output."""

    def classify(self, features: Value, layer: str) -> Value:
        """Flattens and applies the dense layer."""


def assemble(architecture: Architecture, builder: Builder, pixels: Value) -> Value:
    """Builds the network on pixels 0 to 255 and returns the logits."""
    x = _conv_bn(builder, builder.normalize(pixels), "stem/conv", "stem/bn", strides=architecture.stem_strides)
    for block in architecture.blocks:
        x = _block(builder, x, block)
    x = _conv_bn(builder, x, "head/conv", "head/bn")
    return builder.classify(builder.mean(x, "head/pool"), "head/classifier")


def _conv_bn(builder: Builder, x: Value, conv: str, bn: str, **options) -> Value:
    return builder.activation(builder.batch_norm(builder.conv(x, conv, **options), bn), bn)


def _block(builder: Builder, inputs: Value, block: BlockSpec) -> Value:
    x, name = inputs, block.name
    if block.expand_ratio != 1:
        x = _conv_bn(builder, x, f"{name}/expand_conv", f"{name}/expand_bn")
    x = _conv_bn(builder, x, f"{name}/depthwise_conv", f"{name}/depthwise_bn", strides=block.strides, depthwise=True)
    if block.se_filters:
        squeezed = builder.conv(builder.mean(x, f"{name}/se/mean"), f"{name}/se/reduce")
        squeezed = builder.activation(squeezed, f"{name}/se/reduce")
        x = builder.gate(x, builder.conv(squeezed, f"{name}/se/expand"), f"{name}/se/expand")
    x = builder.batch_norm(builder.conv(x, f"{name}/project_conv"), f"{name}/project_bn")
    return builder.add(x, inputs, f"{name}/project_bn") if block.skip else x
