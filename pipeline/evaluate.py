"""Measures the exact accuracy of weights on a dataset, on the devices of this machine.

python -m pipeline.evaluate --weights DIRECTORY --config configs/b0.py [--config.data.data_dir=… --out FOLDER]
python -m pipeline.evaluate --workdir RUN --config configs/b0.py       (the moving averages and the raw weights of a run)

The configuration names the dataset. Image size, crop and normalisation come with the weights. The result is printed as JSON.
With --config.evaluation.confusion=True it has the accuracy of each class, and a plot of the confusion matrix is written to
--out.
"""

import json
import sys

from absl import flags
from etils import epath

from pipeline import command
from pipeline.errors import ConfigError
from pipeline.host.announcing import announce
from pipeline.host.paths import expanded
from pipeline.host.printable import encodable_json
from pipeline.weights import command_line

_CONFIG = command.define_config()
_OUT = flags.DEFINE_string(
    "out", None, "A folder for evaluation.json and confusion matrices; default: none is written."
)


def main() -> None:
    config = command.checked(_CONFIG.value)
    if config.evaluation.confusion and not _OUT.value:
        raise ConfigError("--out is missing: name a folder for the plot of the confusion matrix")
    folder = _made(_OUT.value) if _OUT.value else None
    weights = command_line.open_all_weights()

    from pipeline.reporting import figures
    from pipeline.runtime import distributed
    from pipeline.training.scoring import score

    distributed.check_platform(config.platform)
    announce(f"Opening {config.data.name} and compiling the network", "10 seconds to 2 minutes")
    result, confusion = score(config, weights)
    if folder:
        text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "evaluation.json").write_bytes(f"{text}\n".encode())
        for name, matrix in confusion.items():
            class_names = next(iter(weights.values())).metadata.class_names
            figures.write_confusion(str(folder / f"confusion_{name}.png"), matrix, class_names)
    print(encodable_json(result, sys.stdout, indent=1), flush=True)


def _made(out: str) -> epath.Path:
    """Creates the folder before the work starts."""
    folder = epath.Path(expanded(out))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out={out}: {error.strerror}") from error
    return folder


if __name__ == "__main__":
    command.run(main)
