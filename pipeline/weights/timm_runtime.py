"""Runs an exported folder in timm, which has its own environment, because PyTorch and JAX need not share one.

`$TIMM_PYTHON` names the Python that has timm (`launch/test_interop.sh` creates one); the default is this Python. A short script
loads the folder as any user of timm does. Images and logits are passed through files.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from pipeline.errors import ConfigError, TrainingError
from pipeline.weights.forward import Forward

IMPORTS = """
import sys, torch
try:
    import torchvision
except (ImportError, RuntimeError, AttributeError):
    # PyTorch for CPU beside a torchvision built for CUDA: timm imports it for two operators that no EfficientNet has.
    for name in [name for name in sys.modules if name.split('.')[0] == 'torchvision']:
        del sys.modules[name]
    library = torch.library.Library('torchvision', 'DEF')
    for name in ('nms', 'qnms'):
        library.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
import timm
"""
_FORWARD = """
import json, numpy
folder, images_file, logits_file, mean, deviation = json.loads(sys.argv[1])
model = timm.create_model('local-dir:' + folder, pretrained=True).eval()
images = torch.from_numpy(numpy.load(images_file)).permute(0, 3, 1, 2).float()
images = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
with torch.no_grad():
    numpy.save(logits_file, model(images).numpy())
"""


def check() -> None:
    """Raises `ConfigError` if no Python with timm is known."""
    result = run(IMPORTS, "")
    if result.returncode:
        raise ConfigError(
            f"timm is needed, and {_python()} cannot import it ({_last_line(result.stderr)}): "
            "run launch/test_interop.sh once, and set TIMM_PYTHON to the Python that it names"
        )


def load(folder: pathlib.Path) -> Forward:
    """Returns the forward pass of timm's own network, normalised as the folder's `config.json` says."""
    stated = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    mean, deviation = ([255 * value for value in stated[key]] for key in ("mean", "std"))

    def forward(images: np.ndarray) -> np.ndarray:
        with tempfile.TemporaryDirectory() as exchange:
            images_file, logits_file = f"{exchange}/images.npy", f"{exchange}/logits.npy"
            np.save(images_file, images)
            result = run(IMPORTS + _FORWARD, json.dumps([str(folder), images_file, logits_file, mean, deviation]))
            if result.returncode:
                raise TrainingError(f"timm cannot run what was exported: {_last_line(result.stderr)}")
            return np.load(logits_file)

    return forward


def _python() -> str:
    return os.environ.get("TIMM_PYTHON", sys.executable)


def run(code: str, argument: str) -> subprocess.CompletedProcess:
    """Runs Python code that begins with `IMPORTS` in timm's Python; `argument` is its only argument.

    Raises:
      ConfigError: that Python cannot be started.
    """
    try:
        return subprocess.run([_python(), "-c", code, argument], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConfigError(f"TIMM_PYTHON={_python()} cannot be started: {error.strerror}") from error


def _last_line(text: str) -> str:
    return text.strip().rsplit("\n", 1)[-1][:300]
