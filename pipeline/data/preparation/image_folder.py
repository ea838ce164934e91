"""A folder of images as splits: `DIR/<split>/<class>/<image>`, or `DIR/<class>/<image>` for "train" alone.

Splits, classes and images are in sorted order. Images are recognised by their first bytes, not by their names, and are neither
decoded nor changed. Everything is checked before anything is written. An invalid name, a class that "train" lacks and an
unreadable file refuse the folder. Whatever is no image of a class is left out, counted and named.
"""

import collections
import pathlib
import re

from pipeline.data.preparation.folder_entries import Kind, LeftOut, entries, head_of, shown
from pipeline.data.preparation.shards import Split
from pipeline.errors import DataError

# https://en.wikipedia.org/wiki/List_of_file_signatures
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")


def is_image(head: bytes) -> bool:
    """Returns whether a file that begins with `head` (12 bytes or more) is a JPEG, PNG, GIF, BMP or WebP image."""
    return head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def folder_splits(root: pathlib.Path) -> tuple[list[Split], list[str]]:
    """Returns the splits in `root` and the sorted class names; prints what is left out.

    Raises:
        DataError: there are no images, a class has none in "train", splits have different classes, a name is invalid, or a
            file cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"{shown(root)} is not a folder.")
    left_out = LeftOut(root)
    split_folders = _split_folders(root, left_out)
    if "train" not in split_folders:
        raise DataError(
            f"{shown(root)} has no folder 'train', only {sorted(map(shown, split_folders))}. Expected "
            "train/<class>/<image>, or <class>/<image> with nothing but images in the class folders."
        )
    for name in split_folders:
        _check_split_name(name, root)
    class_folders = _class_folders(split_folders["train"], left_out)
    classes = list(class_folders)
    for name in classes:
        _check_class_name(name, split_folders["train"])
    if len(classes) < 2:
        raise DataError(f"{shown(root)} has fewer than two classes: {classes}. Expected <split>/<class>/<image>.")
    splits = []
    for name, folder in sorted(split_folders.items()):
        folders = class_folders if name == "train" else _class_folders(folder, left_out)
        splits.append(_folder_split(name, folder, folders, classes, left_out))
    left_out.log()
    return splits, classes


def _split_folders(root: pathlib.Path, left_out: LeftOut) -> dict[str, pathlib.Path]:
    """Returns the folders of the splits; if `root` itself holds the classes, it is "train"."""
    folders = [entry.path for entry in entries(root) if entry.kind is Kind.FOLDER and not entry.hidden]
    insides = {folder: [entry for entry in entries(folder) if not entry.hidden] for folder in folders}
    with_folders = [folder for folder in folders if any(entry.kind is Kind.FOLDER for entry in insides[folder])]
    with_images = [folder for folder in folders if any(_is_image(entry) for entry in insides[folder])]
    if not with_folders or (with_images and root / "train" not in folders):
        return {"train": root}
    _class_folders(root, left_out)  # notes what is left out at this level
    return {folder.name: folder for folder in folders}


def _class_folders(root: pathlib.Path, left_out: LeftOut) -> dict[str, pathlib.Path]:
    """Returns the folders in a folder by name; notes the rest as left out."""
    folders = {}
    for entry in entries(root):
        if entry.kind is Kind.FOLDER and not entry.hidden:
            folders[entry.path.name] = entry.path
        elif entry.kind is Kind.FOLDER:
            left_out.add("folder(s) whose name begins with a dot", entry.path)
        elif entry.kind is Kind.FILE:
            left_out.add(f"file(s) directly in {shown(root)}, which are in no class", entry.path)
        else:
            left_out.add(entry.kind.value, entry.path)
    return folders


def _folder_split(
    name: str, root: pathlib.Path, folders: dict[str, pathlib.Path], classes: list[str], left_out: LeftOut
) -> Split:
    strangers = folders.keys() - set(classes)
    if strangers:
        raise DataError(f"{shown(root)} has classes that 'train' lacks: {sorted(map(shown, strangers))[:5]}.")
    files, labels, size = [], [], 0
    for label, class_name in enumerate(classes):
        before = len(files)
        for entry in entries(folders[class_name]) if class_name in folders else ():
            if _is_image(entry):
                files.append(entry.path)
                labels.append(label)
                size += entry.size
            elif entry.kind is Kind.FILE:
                left_out.add("file(s) that are not images", entry.path)
            elif entry.kind is Kind.FOLDER:
                left_out.add("folder(s) inside a class", entry.path)
            else:
                left_out.add(entry.kind.value, entry.path)
        if name == "train" and len(files) == before:
            raise DataError(f"Class {class_name!r} has no image in {shown(folders[class_name])}.")
    if not files:
        raise DataError(f"No images in {shown(root)}.")
    keys = [shown(path.relative_to(root)) for path in files]
    if len(set(keys)) < len(keys):
        ((twice, _),) = collections.Counter(keys).most_common(1)  # also of a million names in a moment
        raise DataError(f"{shown(root)} has two files whose names are shown as {twice!r}. Rename one.")
    return Split(name, keys, labels, lambda i: files[i].read_bytes(), image_bytes=-(-size // len(files)))


def _is_image(entry) -> bool:
    return entry.kind is Kind.FILE and is_image(head_of(entry.path))


def _check_split_name(name: str, root: pathlib.Path) -> None:
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise DataError(
            f"{shown(root)}/{shown(name)} cannot be a split: its name must be a letter and then letters, digits and _. "
            "Rename the folder."
        )


def _check_class_name(name: str, root: pathlib.Path) -> None:
    """Raises for a name that a UTF-8 list with one name on each line would not preserve."""
    if shown(name) != name or not name.isprintable() or name != name.strip():
        raise DataError(
            f"{shown(root)}/{shown(name)} cannot be a class: its name has bytes that are not UTF-8, control characters, "
            "or spaces at an end. Rename the folder."
        )
