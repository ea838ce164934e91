"""Converts the weights of other programs into ours, with their preprocessing.

python -m pipeline.convert PATH --out DIRECTORY [--preprocessing advprop] [--class_names imagenet]

PATH is one of the authors' TensorFlow checkpoints (averages, raw variables or both; 1000 or 1001 classes), a folder or file of
timm, a .pth file with the names of timm or lukemelas's package, or a Keras file. Nothing in a file is ever run.
"""

from absl import flags, logging

from pipeline import command
from pipeline.errors import ConfigError
from pipeline.storage import local
from pipeline.weights import command_line

_OUT = command_line.define_out()
_DROP_BACKGROUND = flags.DEFINE_boolean(
    "drop_background", False, "Of 1001 classes leave out the first, the background."
)


def main(paths: list[str]) -> None:
    from pipeline.weights import directory

    if len(paths) != 1:
        raise ConfigError(f"name one file or folder to convert, not {len(paths)}")
    out = command_line.out(_OUT.value)
    weights = command_line.open_weights(paths[0])
    if _DROP_BACKGROUND.value:
        weights = weights.without_background()
    with local.written_to(out) as place, directory.appearing(place) as folder:
        directory.write(weights, folder)
    logging.info("%s: %s", out, weights.describe())


if __name__ == "__main__":
    command.run(main, takes_paths=True)
