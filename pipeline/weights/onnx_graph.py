"""The ONNX format: the network's graph, written node by node and run by ONNX Runtime.

Without a converter, the graph stays small and readable (Conv, BatchNormalization, Sigmoid, Mul …). Its weights have timm's
names, or ours if timm does not have the network. Batch, height and width are free. The input is float32 RGB pixels from 0 to
255, `[batch, 3, height, width]`.
"""

import pathlib

import numpy as np

from pipeline.model.scaling import architecture
from pipeline.weights.assembly import assemble
from pipeline.weights.container import Weights
from pipeline.weights.forward import Forward
from pipeline.weights.metadata import PIXELS

MODEL = "model.onnx"
OPSET = 17  # onnxruntime 1.14, TensorRT 8.6 and later read it
IR_VERSION = 8  # that of opset 17


def write(weights: Weights, folder: pathlib.Path) -> None:
    """Writes `model.onnx`, with image size, normalisation, classes and origin in its metadata."""
    import onnx

    builder = _OnnxNodes(onnx, weights)
    logits = assemble(architecture(weights.metadata.variant), builder, "pixels")
    shape = ["batch", 3, "height", "width"]
    graph = onnx.helper.make_graph(
        [*builder.nodes, onnx.helper.make_node("Identity", [logits], ["logits"])],
        f"efficientnet-{weights.metadata.variant}",
        [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, shape, doc_string=PIXELS)],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", weights.metadata.num_classes])],
        builder.initializers,
    )
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="pipeline.export",
    )
    metadata = weights.metadata
    properties = {
        "weights": metadata.kind,
        "step": metadata.step,
        "source": metadata.source,
        "pixels": PIXELS,
        "image_size": metadata.image_size,
        "crop": metadata.preprocessing.crop_rule,
        "resize": metadata.preprocessing.resize,
        "class_names": "\n".join(metadata.class_names),
    }
    onnx.helper.set_model_props(model, {key: str(value) for key, value in properties.items()})
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / MODEL))


def load(folder: pathlib.Path, threads: int | None = None) -> Forward:
    """Opens `model.onnx` in ONNX Runtime on the CPU; `threads` None uses all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: one for each core
    session = onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])

    def forward(images: np.ndarray) -> np.ndarray:
        pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2).astype(np.float32))
        return np.asarray(session.run(["logits"], {"pixels": pixels})[0])

    return forward


class _OnnxNodes:
    """Creates ONNX nodes; values are names. See `assembly.Builder`."""

    def __init__(self, onnx, weights: Weights):
        self._onnx = onnx
        self._weights = weights
        self._tensors = {tensor.path: tensor for tensor in weights.metadata.table}
        self._family = architecture(weights.metadata.variant).family
        self.nodes = []
        self.initializers = []

    def normalize(self, pixels):
        preprocessing = self._weights.metadata.preprocessing
        mean = self._constant("mean", np.reshape(preprocessing.mean_rgb, (1, 3, 1, 1)))
        deviation = self._constant("stddev", np.reshape(preprocessing.stddev_rgb, (1, 3, 1, 1)))
        return self._node("Div", [self._node("Sub", [pixels, mean], "centred"), deviation], "normalized")

    def conv(self, x, layer, strides=1, depthwise=False):
        kernel = self._tensors[f"params/{layer}/kernel"]
        bias = [self._tensor(f"params/{layer}/bias")] if f"params/{layer}/bias" in self._tensors else []
        return self._node(
            "Conv",
            [x, self._tensor(kernel.path), *bias],
            layer,
            **self._padding(kernel.shape[0]),
            group=kernel.shape[-1] if depthwise else 1,
            kernel_shape=kernel.shape[:2],
            strides=[strides, strides],
        )

    def batch_norm(self, x, layer):
        names = ("params/{}/scale", "params/{}/bias", "batch_stats/{}/mean", "batch_stats/{}/var")
        inputs = [x, *(self._tensor(name.format(layer)) for name in names)]
        return self._node("BatchNormalization", inputs, layer, epsilon=self._weights.metadata.bn_epsilon)

    def activation(self, x, layer):
        name = f"{layer}/activation"
        if self._family.activation == "relu":
            return self._node("Relu", [x], name)
        if self._family.activation == "relu6":
            return self._node("Clip", [x, self._constant("zero", 0.0), self._constant("six", 6.0)], name)
        return self._node("Mul", [x, self._node("Sigmoid", [x], f"{layer}/sigmoid")], name)

    def max_pool(self, x, layer):
        return self._node("MaxPool", [x], layer, kernel_shape=[3, 3], strides=[2, 2], **self._padding(3))

    def gate(self, x, gate, layer):
        return self._node("Mul", [x, self._node("Sigmoid", [gate], f"{layer}/sigmoid")], f"{layer}/gated")

    def mean(self, x, layer):
        return self._node("GlobalAveragePool", [x], layer)

    def add(self, x, y, layer):
        return self._node("Add", [x, y], f"{layer}/sum")

    def classify(self, features, layer):
        flat = self._node("Flatten", [features], f"{layer}/flat")
        inputs = [flat, self._tensor(f"params/{layer}/kernel"), self._tensor(f"params/{layer}/bias")]
        return self._node("Gemm", inputs, layer, transB=1)

    def _padding(self, kernel_size: int) -> dict:
        if self._family.padding == "same":
            return {"auto_pad": "SAME_UPPER"}  # TensorFlow's SAME, for any size
        return {"pads": [(kernel_size - 1) // 2] * 4}

    def _node(self, kind: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _tensor(self, path: str) -> str:
        tensor = self._tensors[path]
        array, name = tensor.to_convention(self._weights.arrays[path], "timm"), tensor.foreign.get("timm", tensor.path)
        self.initializers.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def _constant(self, name: str, value) -> str:
        if name not in {initializer.name for initializer in self.initializers}:
            self.initializers.append(self._onnx.numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name
