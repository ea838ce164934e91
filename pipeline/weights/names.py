"""The table of tensor names: our name of each tensor and its name in every foreign naming convention.

Every reader and writer of a weight format uses `tensor_table`. No other module permutes axes, and only `conventions.py`
spells foreign names. The table follows from an `Architecture`, without arrays or JAX. Within a convention the names are
distinct, so the table is a bijection. "keras_h5" is the convention of Keras 3's `.weights.h5` files, which number the layers
of a class.
"""

import collections
import dataclasses
from collections.abc import Iterator

import numpy as np

from pipeline.model.specs import Architecture, BlockSpec, ConvSpec
from pipeline.weights.conventions import Layer, conventions_of

OURS = "ours"
CONVENTIONS = ("official", "timm", "keras", "keras_h5", "lukemelas")  # the foreign ones

# The axes of a foreign array, as indices of ours. Ours: convolutions [height, width, in, out], depthwise [height, width, 1,
# channels], dense [in, out].
_TENSORFLOW_AXES = {"depthwise": (0, 1, 3, 2)}
_TORCH_AXES = {"conv": (3, 2, 0, 1), "depthwise": (3, 2, 0, 1), "dense": (1, 0)}
_AXES = {
    "ours": {},
    "official": _TENSORFLOW_AXES,
    "keras": _TENSORFLOW_AXES,
    "keras_h5": _TENSORFLOW_AXES,
    "timm": _TORCH_AXES,
    "lukemelas": _TORCH_AXES,
}

# Our leaf: its name in TensorFlow's conventions, and in PyTorch's.
_BN_LEAVES = {
    "params/scale": ("gamma", "weight"),
    "params/bias": ("beta", "bias"),
    "batch_stats/mean": ("moving_mean", "running_mean"),
    "batch_stats/var": ("moving_variance", "running_var"),
}
_KERNEL_LEAVES = {"params/kernel": ("kernel", "weight"), "params/bias": ("bias", "bias")}
_SEPARATORS = {"official": "/", "timm": ".", "keras": "/", "lukemelas": "."}
_KERAS_CLASSES = {
    "conv": "conv2d", "depthwise": "depthwise_conv2d", "dense": "dense", "bn": "batch_normalization"
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a network.

    Attributes:
      path: Our path, such as "params/blocks_1_0/expand_conv/kernel" or "batch_stats/stem/bn/mean".
      shape: The shape of our array.
      kind: "conv", "depthwise", "dense" or "vector"; decides which axes are permuted.
      foreign: The name in each of `CONVENTIONS` that has the network; "official" names lack the model's scope.
    """

    path: str
    shape: tuple[int, ...]
    kind: str
    foreign: dict[str, str]

    @property
    def is_classifier(self) -> bool:
        """Whether its shape depends on the number of classes."""
        return "/head/classifier/" in self.path

    def name_in(self, convention: str) -> str:
        """Returns the name in `OURS` or one of `CONVENTIONS`."""
        return self.path if convention == OURS else self.foreign[convention]

    def shape_in(self, convention: str) -> tuple[int, ...]:
        """Returns the shape in a naming convention."""
        return tuple(self.shape[axis] for axis in self._axes(convention))

    def to_convention(self, array: np.ndarray, convention: str) -> np.ndarray:
        """Returns our array in a naming convention's layout, contiguous."""
        return np.ascontiguousarray(array.transpose(self._axes(convention)))

    def from_convention(self, array: np.ndarray, convention: str) -> np.ndarray:
        """Returns a naming convention's array in our layout, contiguous."""
        return np.ascontiguousarray(array.transpose(np.argsort(self._axes(convention))))

    def _axes(self, convention: str) -> tuple[int, ...]:
        return _AXES[convention].get(self.kind, tuple(range(len(self.shape))))


def tensor_table(architecture: Architecture, num_classes: int) -> tuple[Tensor, ...]:
    """Returns all tensors of a network, parameters and BatchNorm statistics, from the image to the logits."""
    conventions = conventions_of(architecture)
    tensors, seen = [], collections.Counter()
    for layer in _layers(architecture, num_classes):
        names = {convention: name_of(layer) for convention, name_of in conventions.items()}
        # The classifier of Keras's MobileNet is a 1x1 convolution.
        keras_class = _KERAS_CLASSES["conv" if names["keras"] == "conv_preds" else layer.kind]
        tensors += _tensors(layer, names, f"{keras_class}_{seen[keras_class]}".removesuffix("_0"))
        seen[keras_class] += 1
    return tuple(tensors)


def official_scope(architecture: Architecture) -> str:
    """Returns the scope of the names in the authors' code, such as "efficientnet-b0" or "efficientnetv2-s"."""
    name = architecture.name
    return f"efficientnetv2-{name.removeprefix('v2_')}" if name.startswith("v2_") else f"efficientnet-{name}"


def _layers(architecture: Architecture, num_classes: int) -> Iterator[Layer]:
    yield from _conv_bn(architecture.stem, "stem/conv", "stem/bn")
    for index, block in enumerate(architecture.blocks):
        yield from _block_layers(block, index)
    if architecture.head is not None:
        yield from _conv_bn(architecture.head, "head/conv", "head/bn")
    yield Layer("classifier", "head/classifier", (architecture.num_features, num_classes), None)


def _block_layers(block: BlockSpec, index: int) -> Iterator[Layer]:
    *convs, last = block.convs
    # Keras numbers layers by their distance from the end, so the shortcut comes before the branch's last layer.
    convs = [*convs, *([] if block.shortcut is None else [block.shortcut]), last]
    seen = collections.Counter()
    for conv in convs:
        path = f"{block.name}/{conv.name}"
        yield from _conv_bn(conv, f"{path}_conv", f"{path}_bn", block, index, seen[conv.depthwise], seen.total())
        seen[conv.depthwise] += 1
        if conv.se_filters:
            wide, squeezed = conv.output_filters, conv.se_filters
            yield Layer("se_reduce", f"{block.name}/se/reduce", (1, 1, wide, squeezed), conv, block, index)
            yield Layer("se_expand", f"{block.name}/se/expand", (1, 1, squeezed, wide), conv, block, index)


def _conv_bn(
    spec: ConvSpec,
    conv: str,
    bn: str,
    block: BlockSpec | None = None,
    index: int = 0,
    conv_number: int = 0,
    bn_number: int = 0,
) -> Iterator[Layer]:
    yield Layer("conv", conv, spec.kernel_shape, spec, block, index, conv_number)
    yield Layer("bn", bn, (spec.output_filters,), spec, block, index, bn_number)


def _tensors(layer: Layer, names: dict[str, str], keras_layer: str) -> Iterator[Tensor]:
    """Yields the tensors of a layer, given its names by convention and its name in Keras's `.weights.h5` files."""
    leaves = _BN_LEAVES if layer.kind == "bn" else _KERNEL_LEAVES
    for position, (path, (tensorflow_leaf, torch_leaf)) in enumerate(leaves.items()):
        collection, leaf = path.split("/")
        is_kernel = leaf == "kernel"
        if layer.kind != "bn" and not is_kernel and not layer.has_bias:
            continue
        official_leaf = "depthwise_kernel" if layer.kind == "depthwise" else tensorflow_leaf
        leaf_names = {"official": official_leaf, "keras": tensorflow_leaf, "timm": torch_leaf, "lukemelas": torch_leaf}
        foreign = {
            convention: name + _SEPARATORS[convention] + leaf_names[convention] for convention, name in names.items()
        }
        foreign["keras_h5"] = f"layers/{keras_layer}/vars/{position}"
        yield Tensor(
            path=f"{collection}/{layer.path}/{leaf}",
            shape=layer.shape if is_kernel else layer.shape[-1:],
            kind=layer.kind if is_kernel else "vector",
            foreign=foreign,
        )
