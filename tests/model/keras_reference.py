"""The same EfficientNet in `keras.applications`, with the same random weights: the outside view of the network tests."""

import math

import numpy as np

from pipeline.model.scaling import architecture
from pipeline.model.specs import Architecture


def random_variables(shapes: dict, seed: int = 0) -> dict:
    """Random weights and BN statistics for every leaf, scaled so that signals neither vanish nor explode.

    With the default statistics the logits of a fresh network are about 1e-13 and would hide every error. With branches as
    strong as what they are added to, the 55 blocks of B7 are chaotic: rounding grows by a third in each.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return rng.normal(scale=1.3 / math.sqrt(math.prod(leaf.shape[:-1])), size=leaf.shape)
        if name == "scale" and path[-2].key == "project_bn":
            return rng.uniform(0.1, 0.5, leaf.shape)
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape)
        return rng.normal(scale=0.2, size=leaf.shape)

    import jax

    return jax.tree_util.tree_map_with_path(lambda path, leaf: draw(path, leaf).astype(np.float32), shapes)


def keras_model(variant: str, size: int, num_classes: int):
    """`keras.applications.EfficientNet<variant>` for logits and images of exactly `size`, without any randomness."""
    import keras

    build = getattr(keras.applications, f"EfficientNet{variant.upper()}")
    # Dropout layers stay and do nothing at rate 0, so that training mode can be compared.
    model = build(weights=None, input_shape=(size, size, 3), classes=num_classes, classifier_activation=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


def layer_names(arch: Architecture) -> dict[tuple[str, ...], str]:
    """From our module paths to Keras' layer names."""
    names = {
        ("stem", "conv"): "stem_conv",
        ("stem", "bn"): "stem_bn",
        ("head", "conv"): "top_conv",
        ("head", "bn"): "top_bn",
        ("head", "classifier"): "predictions",
    }
    suffixes = {
        ("expand_conv",): "expand_conv",
        ("expand_bn",): "expand_bn",
        ("depthwise_conv",): "dwconv",
        ("depthwise_bn",): "bn",
        ("se", "reduce"): "se_reduce",
        ("se", "expand"): "se_expand",
        ("project_conv",): "project_conv",
        ("project_bn",): "project_bn",
    }
    for block in arch.blocks:
        prefix = f"block{block.stage + 1}{chr(ord('a') + block.repeat)}"
        for path, suffix in suffixes.items():
            if block.expand_ratio == 1 and suffix.startswith("expand"):
                continue
            names[(block.name, *path)] = f"{prefix}_{suffix}"
    return names


def to_keras(path: tuple[str, ...], kernel: np.ndarray) -> np.ndarray:
    """A kernel in Keras' layout: the depthwise one is [height, width, channels, 1] there; its own inverse."""
    return np.transpose(kernel, (0, 1, 3, 2)) if path[-1] == "depthwise_conv" else kernel


def load(model, variant: str, variables: dict) -> None:
    """Writes our variables into the Keras model."""
    for path, name in layer_names(architecture(variant)).items():
        params, stats = lookup(variables["params"], path), lookup(variables["batch_stats"], path)
        if "kernel" in params:
            weights = [to_keras(path, params["kernel"]), *([params["bias"]] if "bias" in params else [])]
        else:
            weights = [params["scale"], params["bias"], stats["mean"], stats["var"]]
        model.get_layer(name).set_weights(weights)


def lookup(tree: dict, path: tuple[str, ...]) -> dict:
    """The leaves below a module path; empty where there are none."""
    for key in path:
        tree = tree.get(key, {})
    return tree


def leaf(variables: dict, path: str) -> np.ndarray:
    """The array at one of our paths, such as "params/stem/conv/kernel"."""
    for key in path.split("/"):
        variables = variables[key]
    return variables


def unscaled(model, images: np.ndarray) -> np.ndarray:
    """The pixels from which the model's own first layers make `images`."""
    names = [type(layer).__name__ for layer in model.layers[1:3]]
    if names == ["Rescaling", "Normalization"]:
        # Without weights Keras's V1 and V2-B networks normalise with mean 0 and variance 1, or with ImageNet's.
        layer = model.layers[2]
        return (images * np.sqrt(layer.variance) + layer.mean) * 255
    return (images + 1) * 128 if names[0] == "Rescaling" else images
