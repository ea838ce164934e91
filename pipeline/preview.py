"""Draws images before and after augmentation into one PNG file.

python -m pipeline.preview --config configs/b0.py --out all_operations.png
python -m pipeline.preview --config configs/b0.py --op Rotate --out rotate.png       (several images, levels 0 to 10)
python -m pipeline.preview --config configs/b0.py --op train --out training.png      (what the model sees)

The images are the first ones of the configuration's training split, or the files named with --image.
"""

import pathlib

import cv2
from absl import flags
from ml_collections import ConfigDict

from pipeline import command
from pipeline.data import contact_sheet
from pipeline.data.decoding.headers import DamagedImageError
from pipeline.data.decoding.images import decode
from pipeline.data.sources import open_source
from pipeline.errors import ConfigError, DataError
from pipeline.host.paths import expanded
from pipeline.model.scaling import architecture

_CONFIG = command.define_config()
_OP = flags.DEFINE_enum(
    "op",
    "all",
    contact_sheet.CASES,
    "One operation; all of them; or the whole training preprocessing.",
)
_OUT = flags.DEFINE_string("out", None, "The PNG file to write.")
_IMAGE = flags.DEFINE_multi_string("image", [], "An image file to use instead of the dataset; may be repeated.")

_ROWS = 6  # images with --op


def main() -> None:
    config = command.checked(_CONFIG.value)
    if not _OUT.value or not _OUT.value.endswith(".png"):
        raise ConfigError(f"--out={_OUT.value}: name the file to write, ending in .png")
    out = expanded(_OUT.value)
    image_size = config.image_size or architecture(config.model.variant).resolution
    sheet = contact_sheet.sheet(config.data, image_size, _OP.value, _files(config))
    try:
        encoded = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1]
        pathlib.Path(out).write_bytes(encoded.tobytes())
    except OSError as error:
        raise ConfigError(f"--out={_OUT.value}: {error.strerror}") from error
    print(f"Wrote {out}")


def _files(config: ConfigDict) -> list[bytes]:
    if _IMAGE.value:
        return [_checked(expanded(path)) for path in _IMAGE.value]

    source = open_source(config.data.name, config.data.train_split, config.data.data_dir)
    return [source[index]["image"] for index in range(min(_ROWS, len(source)))]


def _checked(path: str) -> bytes:
    """Returns the content of an image file.

    Raises:
      DataError: it cannot be read, or is damaged.
    """
    try:
        content = pathlib.Path(path).read_bytes()
        decode(content)
    except OSError as error:
        raise DataError(f"--image={path}: {error.strerror}") from error
    except DamagedImageError as error:
        raise DataError(f"--image={path}: {error}") from error
    return content


if __name__ == "__main__":
    command.run(main)
