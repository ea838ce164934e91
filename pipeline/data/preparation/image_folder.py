"""A folder of pictures as splits: `DIR/<split>/<class>/<picture>`, or `DIR/<class>/<picture>` for "train" alone.

Owns how a folder is read: splits, classes and pictures in sorted order, pictures recognised by their first bytes and
not by their name. Never decodes or changes a picture. All splits have the classes of "train", or the folder is refused.
"""

import pathlib

from pipeline.data.preparation.shards import Split
from pipeline.errors import DataError

# https://en.wikipedia.org/wiki/List_of_file_signatures
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")


def is_picture(head: bytes) -> bool:
    """Returns whether a file that begins with `head` (12 bytes or more) is a JPEG, PNG, GIF, BMP or WebP picture."""
    return head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def folder_splits(root: pathlib.Path) -> tuple[list[Split], list[str]]:
    """Returns the splits in `root` and the names of the classes, sorted.

    Raises:
        DataError: no pictures, a class without pictures in "train", or splits with different classes.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder.")
    folders = _subfolders(root)
    if not any(_subfolders(folder) for folder in folders):
        split_folders = {"train": root}
    else:
        split_folders = {folder.name: folder for folder in folders}
    if "train" not in split_folders:
        raise DataError(
            f"{root} has no folder 'train', only {sorted(split_folders)}. Expected train/<class>/<picture>."
        )
    classes = [folder.name for folder in _subfolders(split_folders["train"])]
    if len(classes) < 2:
        raise DataError(f"{root} has fewer than two classes: {classes}. Expected <split>/<class>/<picture>.")
    return [_folder_split(name, folder, classes) for name, folder in sorted(split_folders.items())], classes


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _folder_split(name: str, root: pathlib.Path, classes: list[str]) -> Split:
    strangers = {folder.name for folder in _subfolders(root)} - set(classes)
    if strangers:
        raise DataError(f"{root} has classes that 'train' has not: {sorted(strangers)[:5]}.")
    files, labels, others, size = [], [], [], 0
    for label, class_name in enumerate(classes):
        folder = root / class_name
        before = len(files)
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            with path.open("rb") as file:
                head = file.read(12)
            if is_picture(head):
                files.append(path)
                labels.append(label)
                size += path.stat().st_size
            else:
                others.append(path)
        if name == "train" and len(files) == before:
            raise DataError(f"Class {class_name!r} has no picture in {folder}.")
    if not files:
        raise DataError(f"No pictures in {root}.")
    if others:
        print(f"{root}: left out {len(others)} files that are not pictures, such as {others[0]}")
    keys = [path.relative_to(root).as_posix() for path in files]
    return Split(name, keys, labels, lambda i: files[i].read_bytes(), picture_bytes=-(-size // len(files)))
