"""Exports trained weights in the format that the next tool reads.

python -m pipeline.export --workdir RUN --format timm,onnx --out DIRECTORY
python -m pipeline.export --weights DIRECTORY --format savedmodel --out DIRECTORY

The formats are weights (our own folder), timm, keras, savedmodel, tflite, stablehlo, onnx and official. Each appears in a
folder of its name below --out, after its own runtime has opened it and given the trained network's logits on real images.
"""

import os

from absl import flags, logging

from pipeline import command
from pipeline.host.announcing import announce
from pipeline.host.paths import expanded
from pipeline.storage import local
from pipeline.weights import command_line

_FORMATS = flags.DEFINE_list("format", None, "One or several formats, separated by commas.")
_OUT = command_line.define_out()
_IMAGES = flags.DEFINE_multi_string(
    "image",
    None,
    "An image file to compare on and to calibrate int8 with; may be repeated. Default: two photographs.",
)


def main() -> None:
    from pipeline.weights import exporting, photographs

    formats, out = list(dict.fromkeys(_FORMATS.value or [])), command_line.out(_OUT.value)
    exporting.check_formats(formats)
    weights = command_line.open_weights()
    logging.info("Exporting %s", weights.describe())
    if _IMAGES.value:
        named = [expanded(path) for path in _IMAGES.value]
        images = photographs.prepare(photographs.read_images(named), weights.metadata, named)
        calibration = images
    else:
        images = photographs.prepare(photographs.photographs(), weights.metadata, photographs.PHOTOGRAPHS)
        calibration = photographs.calibration_crops(weights.metadata.image_size)
    for name in formats:
        announce(f"Exporting {name}, and comparing it in its own runtime", "10 to 60 seconds")
        with local.written_to(os.path.join(out, name)) as folder:
            for difference in exporting.export(weights, name, folder, images, calibration):
                logging.info("%s/%s", os.path.join(out, name), difference)


if __name__ == "__main__":
    command.run(main)
