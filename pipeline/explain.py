"""Draws class-activation maps over images, which show where a network sees a class.

python -m pipeline.explain --weights WEIGHTS IMAGE … --out DIRECTORY [--top 3]

WEIGHTS and IMAGE are as for `pipeline.predict`. Each image gives one PNG: the image as the network sees it, and a panel for
each of the most probable classes. Images that cannot be read are reported, and the exit code is then 65.
"""

import os

from absl import flags
from etils import epath

from pipeline import command
from pipeline.errors import ConfigError, DataError
from pipeline.host.announcing import announce
from pipeline.weights import command_line

_OUT = flags.DEFINE_string("out", None, "The folder to write the PNG files to.")
_TOP = flags.DEFINE_integer("top", 3, "Number of classes to draw.", lower_bound=1, upper_bound=10)


def main(words: list[str]) -> None:
    if not words:
        raise ConfigError("name images: files, folders, patterns, or - for names from standard input")
    out = epath.Path(command_line.out(_OUT.value))
    weights = command_line.open_weights()

    from pipeline.data.preparation.folder_entries import shown
    from pipeline.reporting.figures import write_image
    from pipeline.weights import activation_maps, image_files, map_drawing

    announce("Compiling the network, at the first image", f"5 to 60 seconds for {weights.metadata.image_size} pixels")
    activations, transform = activation_maps.make_activations(weights), weights.metadata.eval_transform()
    taken, unreadable, images = set(), [], 0
    for file in image_files.image_files(words):
        images += 1
        try:
            pixels = transform.pixels(file.read())
        except DataError as error:
            unreadable.append(f"{file.name}: {error}")
            print(f"{file.name}\n  cannot be read: {error}", flush=True)
            continue
        found = activations(pixels)
        lines, row = [], [(shown(os.path.basename(file.name)), pixels)]
        for label in found.most_probable(_TOP.value):
            name, share = weights.metadata.name_of(label), found.probabilities[label]
            lines.append(f"  {share:7.2%}  {label:5}  {name}")
            row.append((f"{name}, {share:.1%}", map_drawing.overlay(pixels, found.map_of(label))))
        path = out / f"{_free_name(file.name, taken)}.png"
        write_image(str(path), map_drawing.panels([row]))
        print("\n".join([f"{file.name} → {path}", *lines]), flush=True)
    if not images:
        raise DataError("no image was named on standard input")
    if unreadable:
        raise DataError(f"{len(unreadable)} of {images} could not be read, the first {unreadable[0]}")


def _free_name(path: str, taken: set[str]) -> str:
    """Returns the file's name without its ending, numbered if it is taken."""
    stem = os.path.splitext(os.path.basename(path))[0] or "image"
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name)
    return name


if __name__ == "__main__":
    command.run(main, takes_paths=True)
