"""Predicts the classes of images.

python -m pipeline.predict --weights DIRECTORY IMAGE … [--top 5] [--json]
find photographs -newer yesterday | python -m pipeline.predict --weights DIRECTORY -

IMAGE is a file, local or gs://…, a folder (all images below it), a pattern such as 'photographs/**/*.jpg', or - for names
from standard input, one on each line. Image size, crop, resize and normalisation come with the weights. An image that cannot
be read is reported in its place, and the exit code is then 65.
"""

import sys

from absl import flags

from pipeline import command
from pipeline.errors import ConfigError, DataError
from pipeline.host.announcing import announce
from pipeline.host.printable import encodable_json
from pipeline.weights import command_line

_TOP = flags.DEFINE_integer("top", 5, "How many classes to name for each image.", lower_bound=1)
_JSON = flags.DEFINE_boolean("json", False, "Print one line of JSON for each image instead of a table.")


def main(words: list[str]) -> None:
    if not words:
        raise ConfigError("name images: files, folders, patterns, or - for names from standard input")
    weights = command_line.open_weights()

    from pipeline.weights import image_files, prediction

    announce("Compiling the network, at the first image", f"5 to 60 seconds for {weights.metadata.image_size} pixels")
    unreadable, images = [], 0
    for image in prediction.predict(weights, image_files.image_files(words), top=_TOP.value):
        images += 1
        if isinstance(image, prediction.Unreadable):
            unreadable.append(image)
        print(encodable_json(image.to_json(), sys.stdout) if _JSON.value else image.as_table(), flush=True)
    if not images:
        raise DataError("no image was named on standard input")
    if unreadable:
        first = unreadable[0]
        raise DataError(f"{len(unreadable)} of {images} could not be read, the first {first.image}: {first.reason}")


if __name__ == "__main__":
    command.run(main, takes_paths=True)
