"""The table of tensor names: what each tensor of a network is called here, by the authors, in PyTorch and in Keras.

Everything that reads or writes a weight format goes through `tensor_table`; no other module spells a foreign name or permutes
axes. The table follows from an `Architecture` alone: no arrays, no JAX. Invariant: within each dialect the names are distinct,
so the table is a bijection.

Sources. "official": tensorflow/tpu, models/official/efficientnet/efficientnet_model.py (TF1 numbers layers within a scope).
"timm": huggingface/pytorch-image-models, timm/models/_efficientnet_builder.py. "keras": keras/src/applications/efficientnet.py,
and "keras_h5" what Keras 3 calls the same variables in `.weights.h5` files, where layers of one class are numbered.
"lukemelas": lukemelas/EfficientNet-PyTorch, efficientnet_pytorch/model.py, and the packages that descend from it.
"""

import collections
import dataclasses
import string
from collections.abc import Iterator

import numpy as np

from pipeline.model.specs import Architecture, BlockSpec

OURS = "ours"
DIALECTS = ("official", "timm", "keras", "keras_h5", "lukemelas")  # the foreign ones

# Axes of a foreign array, as axes of ours. Ours: convolutions [height, width, in, out], depthwise [height, width, 1, channels],
# dense [in, out].
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

# Our leaf: what the official code and Keras, and what both PyTorch dialects, call it.
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
      path: Ours, such as "params/blocks_1_0/expand_conv/kernel" or "batch_stats/stem/bn/mean".
      shape: Of our array.
      kind: "conv", "depthwise", "dense" or "vector"; decides which axes are permuted.
      foreign: The name in each of `DIALECTS`; the official one without the model's own scope.
    """

    path: str
    shape: tuple[int, ...]
    kind: str
    foreign: dict[str, str]

    @property
    def is_classifier(self) -> bool:
        """Whether its shape depends on the number of classes."""
        return "/head/classifier/" in self.path

    def name_in(self, dialect: str) -> str:
        """Returns the name in `OURS` or one of `DIALECTS`."""
        return self.path if dialect == OURS else self.foreign[dialect]

    def shape_in(self, dialect: str) -> tuple[int, ...]:
        """Returns the shape in a dialect."""
        return tuple(self.shape[axis] for axis in self._axes(dialect))

    def to_dialect(self, array: np.ndarray, dialect: str) -> np.ndarray:
        """Returns our array in a dialect's layout, contiguous."""
        return np.ascontiguousarray(array.transpose(self._axes(dialect)))

    def from_dialect(self, array: np.ndarray, dialect: str) -> np.ndarray:
        """Returns a dialect's array in our layout, contiguous."""
        return np.ascontiguousarray(array.transpose(np.argsort(self._axes(dialect))))

    def _axes(self, dialect: str) -> tuple[int, ...]:
        return _AXES[dialect].get(self.kind, tuple(range(len(self.shape))))


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A layer with its names; `kind` is "conv", "depthwise", "dense" or "bn", `shape` that of the kernel or the channels."""

    kind: str
    shape: tuple[int, ...]
    ours: str
    official: str
    timm: str
    keras: str
    lukemelas: str
    bias: bool = False


def tensor_table(architecture: Architecture, num_classes: int) -> tuple[Tensor, ...]:
    """Returns all tensors of a network, parameters and BatchNorm statistics, from the picture to the logits."""
    tensors, seen = [], collections.Counter()
    for layer in _layers(architecture, num_classes):
        tensors += _tensors(layer, seen[layer.kind])
        seen[layer.kind] += 1
    return tuple(tensors)


def official_scope(architecture: Architecture) -> str:
    """Returns the scope that the authors' code puts before its names, such as "efficientnet-b0"."""
    return f"efficientnet-{architecture.name}"


def _layers(architecture: Architecture, num_classes: int) -> Iterator[_Layer]:
    stem, head = architecture.stem_filters, architecture.head_filters
    yield _Layer("conv", (3, 3, 3, stem), "stem/conv", "stem/conv2d", "conv_stem", "stem_conv", "_conv_stem")
    yield _Layer("bn", (stem,), "stem/bn", "stem/tpu_batch_normalization", "bn1", "stem_bn", "_bn0")
    for index, block in enumerate(architecture.blocks):
        yield from _block_layers(block, index)
    last = architecture.blocks[-1].output_filters
    yield _Layer("conv", (1, 1, last, head), "head/conv", "head/conv2d", "conv_head", "top_conv", "_conv_head")
    yield _Layer("bn", (head,), "head/bn", "head/tpu_batch_normalization", "bn2", "top_bn", "_bn1")
    classifier = ("head/classifier", "head/dense", "classifier", "predictions", "_fc")
    yield _Layer("dense", (head, num_classes), *classifier, bias=True)


def _block_layers(block: BlockSpec, index: int) -> Iterator[_Layer]:
    """Yields the layers of block number `index`; without an expansion TF1 and timm number the later ones differently."""
    wide, squeezed, expands = block.expanded_filters, block.se_filters, block.expand_ratio != 1
    prefixes = (
        block.name,
        f"blocks_{index}",
        f"blocks.{block.stage}.{block.repeat}",
        f"block{block.stage + 1}{string.ascii_lowercase[block.repeat]}",
        f"_blocks.{index}",
    )

    def layer(kind, shape, ours, official, timm, keras, lukemelas, bias=False):
        ours_prefix, official_prefix, timm_prefix, keras_prefix, lukemelas_prefix = prefixes
        names = (f"{ours_prefix}/{ours}", f"{official_prefix}/{official}", f"{timm_prefix}.{timm}")
        return _Layer(kind, shape, *names, f"{keras_prefix}_{keras}", f"{lukemelas_prefix}.{lukemelas}", bias)

    bn = [f"tpu_batch_normalization{suffix}" for suffix in ("", "_1", "_2")]
    if expands:
        yield layer(
            "conv", (1, 1, block.input_filters, wide), "expand_conv", "conv2d", "conv_pw", "expand_conv", "_expand_conv"
        )
        yield layer("bn", (wide,), "expand_bn", bn[0], "bn1", "expand_bn", "_bn0")
    size = block.kernel_size
    depthwise = ("depthwise_conv", "depthwise_conv2d", "conv_dw", "dwconv", "_depthwise_conv")
    yield layer("depthwise", (size, size, 1, wide), *depthwise)
    yield layer("bn", (wide,), "depthwise_bn", bn[expands], f"bn{1 + expands}", "bn", "_bn1")
    if squeezed:
        reduce = ("se/reduce", "se/conv2d", "se.conv_reduce", "se_reduce", "_se_reduce")
        expand = ("se/expand", "se/conv2d_1", "se.conv_expand", "se_expand", "_se_expand")
        yield layer("conv", (1, 1, wide, squeezed), *reduce, bias=True)
        yield layer("conv", (1, 1, squeezed, wide), *expand, bias=True)
    official_conv, timm_conv = ("conv2d_1", "conv_pwl") if expands else ("conv2d", "conv_pw")
    project = ("project_conv", official_conv, timm_conv, "project_conv", "_project_conv")
    yield layer("conv", (1, 1, wide, block.output_filters), *project)
    yield layer("bn", (block.output_filters,), "project_bn", bn[1 + expands], f"bn{2 + expands}", "project_bn", "_bn2")


def _tensors(layer: _Layer, number: int) -> Iterator[Tensor]:
    """Yields the tensors of the layer that is number `number` of its kind."""
    leaves = _BN_LEAVES if layer.kind == "bn" else _KERNEL_LEAVES
    keras_layer = _KERAS_CLASSES[layer.kind] + (f"_{number}" if number else "")
    for position, (path, (tensorflow_leaf, torch_leaf)) in enumerate(leaves.items()):
        collection, leaf = path.split("/")
        is_kernel = leaf == "kernel"
        if layer.kind != "bn" and not is_kernel and not layer.bias:
            continue
        official_leaf = "depthwise_kernel" if layer.kind == "depthwise" else tensorflow_leaf
        names = {"official": official_leaf, "keras": tensorflow_leaf, "timm": torch_leaf, "lukemelas": torch_leaf}
        foreign = {name: getattr(layer, name) + separator + names[name] for name, separator in _SEPARATORS.items()}
        foreign["keras_h5"] = f"layers/{keras_layer}/vars/{position}"
        yield Tensor(
            path=f"{collection}/{layer.ours}/{leaf}",
            shape=layer.shape if is_kernel else layer.shape[-1:],
            kind=layer.kind if is_kernel else "vector",
            foreign=foreign,
        )
