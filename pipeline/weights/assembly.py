"""Walks over the layers of a network to build it in another framework, as Keras layers or ONNX nodes.

`assemble` has the order of the layers and the branches; a `Builder` knows one framework. Layers are identified by our paths,
which the table of names translates. The trained network is `model/network.py`. Every export checks that both compute the
same.
"""

from typing import Any, Protocol

from pipeline.model.specs import Architecture, BlockSpec, ConvSpec

Value = Any  # the value that a framework passes between layers


class Builder(Protocol):
    """Adds a layer to a network and returns its output; `layer` is our path, such as "blocks_1_0/expand_conv"."""

    def normalize(self, pixels: Value) -> Value:
        """Subtracts the mean of pixel values 0 to 255 and divides by their deviation."""

    def conv(self, x: Value, layer: str, strides: int = 1, depthwise: bool = False) -> Value:
        """Convolves with the family's padding, and adds the layer's bias if it has one."""

    def batch_norm(self, x: Value, layer: str) -> Value:
        """Normalises with the running statistics."""

    def activation(self, x: Value, layer: str) -> Value:
        """Applies the family's activation function after the layer."""

    def max_pool(self, x: Value, layer: str) -> Value:
        """Takes the maximum of 3x3 values with stride 2 and the family's padding."""

    def gate(self, x: Value, gate: Value, layer: str) -> Value:
        """Multiplies by the sigmoid of a `[batch, 1, 1, channels]` value."""

    def mean(self, x: Value, layer: str) -> Value:
        """Averages over the image, keeping its axes."""

    def add(self, x: Value, y: Value, layer: str) -> Value:
        """Adds the input of a block to its output."""

    def classify(self, features: Value, layer: str) -> Value:
        """Flattens and applies the dense layer."""


def assemble(architecture: Architecture, builder: Builder, pixels: Value) -> Value:
    """Builds the network on pixels 0 to 255 and returns the logits."""
    x = _conv_bn(builder, builder.normalize(pixels), architecture.stem, "stem/conv", "stem/bn")
    if architecture.stem_pool:
        x = builder.max_pool(x, "stem/pool")
    for block in architecture.blocks:
        x = _block(builder, x, block)
    if architecture.head is not None:
        x = _conv_bn(builder, x, architecture.head, "head/conv", "head/bn")
    return builder.classify(builder.mean(x, "head/pool"), "head/classifier")


def _conv_bn(builder: Builder, x: Value, spec: ConvSpec, conv: str, bn: str) -> Value:
    x = builder.batch_norm(builder.conv(x, conv, strides=spec.strides, depthwise=spec.depthwise), bn)
    return builder.activation(x, bn) if spec.activated else x


def _block(builder: Builder, inputs: Value, block: BlockSpec) -> Value:
    x, name = inputs, block.name

    def conv_bn(x: Value, spec: ConvSpec) -> Value:
        return _conv_bn(builder, x, spec, f"{name}/{spec.name}_conv", f"{name}/{spec.name}_bn")

    for spec in block.convs:
        x = conv_bn(x, spec)
        if spec.se_filters:
            squeezed = builder.conv(builder.mean(x, f"{name}/se/mean"), f"{name}/se/reduce")
            squeezed = builder.activation(squeezed, f"{name}/se/reduce")
            x = builder.gate(x, builder.conv(squeezed, f"{name}/se/expand"), f"{name}/se/expand")
    if not block.skip:
        return x
    last = f"{name}/{block.convs[-1].name}_bn"
    if block.shortcut is None:
        x = builder.add(x, inputs, last)
    else:  # in the order of keras.applications, which numbers the layers of both branches
        x = builder.add(conv_bn(inputs, block.shortcut), x, last)
    return builder.activation(x, f"{name}/sum") if block.activates_sum else x
