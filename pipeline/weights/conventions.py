"""The names of a network's layers in other code: one function for each naming convention of a family.

`names.py` walks the layers of an `Architecture` and gets their foreign names here; no other module spells one. A family without
a convention cannot be read from or written to the formats that use it.

Sources. "official": tensorflow/tpu, models/official/efficientnet/efficientnet_model.py, and google/automl,
efficientnetv2/effnetv2_model.py (TensorFlow numbers the layers of a class within a scope). "timm":
huggingface/pytorch-image-models, timm/models/_efficientnet_builder.py. "keras": keras/src/applications. "lukemelas":
lukemelas/EfficientNet-PyTorch, efficientnet_pytorch/model.py, and the packages that descend from it.
"""

import dataclasses
from collections.abc import Callable, Mapping

from pipeline.model.specs import Architecture, BlockSpec, ConvSpec


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with parameters, and its place in the network.

    Attributes:
      role: "conv", "bn", "se_reduce", "se_expand" or "classifier".
      path: The path of our module, such as "blocks_1_0/expand_conv".
      shape: The shape of the kernel, or the channels of a BatchNorm.
      conv: The convolution that the layer is or belongs to; None for the classifier.
      block: The block it belongs to; None in stem and head.
      index: The index of that block.
      number: The number of layers of its class before it in the block; the classes are dense and depthwise convolutions and
        BatchNorms.
    """

    role: str
    path: str
    shape: tuple[int, ...]
    conv: ConvSpec | None
    block: BlockSpec | None = None
    index: int = 0
    number: int = 0

    @property
    def convolution(self) -> ConvSpec:
        """The convolution that the layer is or belongs to; only the classifier has none."""
        assert self.conv is not None, self.path
        return self.conv

    @property
    def kind(self) -> str:
        """ "conv", "depthwise", "dense" or "bn"; decides which axes are permuted."""
        if self.role == "conv":
            return "depthwise" if self.convolution.depthwise else "conv"
        return {"classifier": "dense", "bn": "bn"}.get(self.role, "conv")

    @property
    def has_bias(self) -> bool:
        """Whether it has a bias; BatchNorm's shift does not count."""
        return self.role in ("se_reduce", "se_expand", "classifier")


NamingConvention = Callable[[Layer], str]


def _numbered(name: str, number: int) -> str:
    """Returns TensorFlow's name of layer `number` of its class in a scope."""
    return f"{name}_{number}" if number else name


def _end_of(layer: Layer, stem: str, head: str) -> str:
    return stem if layer.path.startswith("stem/") else head


def _efficientnet_official(layer: Layer) -> str:
    if layer.block is None:
        end = _end_of(layer, "stem", "head")
        return f"{end}/{ {'conv': 'conv2d', 'bn': 'tpu_batch_normalization', 'classifier': 'dense'}[layer.role] }"
    names = {
        "conv": _numbered("depthwise_conv2d" if layer.kind == "depthwise" else "conv2d", layer.number),
        "bn": _numbered("tpu_batch_normalization", layer.number),
        "se_reduce": "se/conv2d",
        "se_expand": "se/conv2d_1",
    }
    return f"blocks_{layer.index}/{names[layer.role]}"


# timm's names of the convolutions, in order, by the kind of block and whether it expands.
_TIMM_CONVS = {
    ("mbconv", True): ("conv_pw", "conv_dw", "conv_pwl"),
    ("mbconv", False): ("conv_dw", "conv_pw"),
    ("fused_mbconv", True): ("conv_exp", "conv_pwl"),
    ("fused_mbconv", False): ("conv",),
}


def _efficientnet_timm(layer: Layer) -> str:
    if layer.role == "classifier":
        return "classifier"
    if layer.block is None:
        names = {"conv": ("conv_stem", "conv_head"), "bn": ("bn1", "bn2")}[layer.role]
        return _end_of(layer, *names)
    block = layer.block
    convs = _TIMM_CONVS[block.kind, block.expand_ratio != 1]
    names = {
        "conv": convs[block.convs.index(layer.convolution)],
        "bn": f"bn{layer.number + 1}",
        "se_reduce": "se.conv_reduce",
        "se_expand": "se.conv_expand",
    }
    return f"blocks.{block.stage}.{block.repeat}.{names[layer.role]}"


def _efficientnet_keras(layer: Layer, depthwise: str = "dwconv") -> str:
    if layer.role == "classifier":
        return "predictions"
    if layer.block is None:
        return f"{_end_of(layer, 'stem', 'top')}_{layer.role}"
    block = layer.block
    names = {
        "conv": depthwise if layer.kind == "depthwise" else f"{layer.convolution.name}_conv",
        "bn": "bn" if layer.convolution.depthwise else f"{layer.convolution.name}_bn",
    }
    return f"block{block.stage + 1}{chr(ord('a') + block.repeat)}_{names.get(layer.role, layer.role)}"


def _efficientnet_v2_keras(layer: Layer) -> str:
    return _efficientnet_keras(layer, depthwise="dwconv2")


def _efficientnet_lukemelas(layer: Layer) -> str:
    if layer.role == "classifier":
        return "_fc"
    if layer.block is None:
        names = {"conv": ("_conv_stem", "_conv_head"), "bn": ("_bn0", "_bn1")}[layer.role]
        return _end_of(layer, *names)
    numbers = {"expand": 0, "depthwise": 1, "project": 2}
    names = {"conv": f"_{layer.convolution.name}_conv", "bn": f"_bn{numbers[layer.convolution.name]}"}
    return f"_blocks.{layer.index}.{names.get(layer.role, f'_{layer.role}')}"


def _mobilenet_v1_keras(layer: Layer) -> str:
    if layer.role == "classifier":
        return "conv_preds"
    suffix = "_bn" if layer.role == "bn" else ""
    if layer.block is None:
        return f"conv1{suffix}"
    return f"conv_{'dw' if layer.convolution.depthwise else 'pw'}_{layer.index + 1}{suffix}"


def _mobilenet_v2_keras(layer: Layer) -> str:
    if layer.role == "classifier":
        return "predictions"
    if layer.block is None:
        names = {"conv": ("Conv1", "Conv_1"), "bn": ("bn_Conv1", "Conv_1_bn")}[layer.role]
        return _end_of(layer, *names)
    prefix = f"block_{layer.index}" if layer.index else "expanded_conv"
    return f"{prefix}_{layer.convolution.name}{'_BN' if layer.role == 'bn' else ''}"


def _resnet_keras(layer: Layer) -> str:
    if layer.role == "classifier":
        return "predictions"
    if layer.block is None:
        return f"conv1_{layer.role}"
    number = {"shortcut": 0, "reduce": 1, "spatial": 2, "expand": 3}[layer.convolution.name]
    return f"conv{layer.block.stage + 2}_block{layer.block.repeat + 1}_{number}_{layer.role}"


def _own_path(layer: Layer) -> str:
    return layer.path.replace("/", "_")


_EFFICIENTNET: Mapping[str, NamingConvention] = {
    "official": _efficientnet_official,
    "timm": _efficientnet_timm,
    "keras": _efficientnet_keras,
    "lukemelas": _efficientnet_lukemelas,
}

_CONVENTIONS: Mapping[str, Mapping[str, NamingConvention]] = {
    "efficientnet": _EFFICIENTNET,
    "efficientnet-lite": _EFFICIENTNET,
    "efficientnet-v2": {
        "official": _efficientnet_official,
        "timm": _efficientnet_timm,
        "keras": _efficientnet_v2_keras,
    },
    "mobilenet-v1": {"keras": _mobilenet_v1_keras},
    "mobilenet-v2": {"keras": _mobilenet_v2_keras},
    "resnet": {"keras": _resnet_keras},
    "resnet-v1": {"keras": _resnet_keras},
}


def conventions_of(architecture: Architecture) -> Mapping[str, NamingConvention]:
    """Returns the naming conventions of a network by name.

    A family that is not listed has EfficientNet's names if all its blocks are EfficientNet's, and otherwise our own paths in
    Keras. "keras" is always there, because every network can be exported to it.
    """
    if architecture.family.name in _CONVENTIONS:
        return _CONVENTIONS[architecture.family.name]
    ours = all(block.kind == "mbconv" for block in architecture.blocks)
    return _EFFICIENTNET if ours else {"keras": _own_path}
