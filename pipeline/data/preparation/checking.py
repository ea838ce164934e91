"""Reads a prepared dataset once from end to end and records its contents.

The result is `contents.json` beside the shards. For each split it has the number of images of each class, the number without a
label, and a checksum of everything. The file marks the preparation as finished. `pipeline.data.sources` checks it when a run
starts.
"""

import hashlib
import json

import numpy as np
import tqdm
from etils import epath

from pipeline.data.sources import CONTENTS_FILE, Source, open_builder
from pipeline.errors import DataError
from pipeline.host.whole_files import write_whole

_UNKNOWN_LABEL = -1  # tfds's label if the class is not published, as in ImageNet's test split


def check_dataset(directory: epath.Path) -> None:
    """Writes `contents.json` of the dataset in `directory`.

    Raises:
        DataError: a record cannot be read, a label is not a class, or a class has no image in the split "train".
    """
    contents = {}
    for split in open_builder(directory).info.splits:
        contents[split] = _check_split(Source(str(directory), split))
    write_whole(directory / CONTENTS_FILE, json.dumps(contents))


def _check_split(source: Source) -> dict:
    counts = np.zeros(source.num_classes, np.int64)
    unlabelled = 0
    digest = hashlib.sha256()
    progress = tqdm.tqdm(source.in_order(), total=len(source), unit=" images", desc=f"checking {source.split}")
    for record, (image, label) in enumerate(progress):
        digest.update(label.to_bytes(8, "little", signed=True) + image)
        if label == _UNKNOWN_LABEL:
            unlabelled += 1
        else:
            counts[source.checked_label(record, label)] += 1
    if unlabelled and source.split == "train":
        raise DataError(f"{source.name}: {unlabelled:,} of {len(source):,} images in 'train' have no label (-1).")
    missing = [source.class_names[label] for label in np.flatnonzero(counts == 0)]
    if missing and unlabelled < len(source):
        message = f"{source.name}: {len(missing)} classes have no image in {source.split!r}, such as {missing[:3]}."
        if source.split == "train":
            raise DataError(message)
        print(message)
    return {"label_counts": counts.tolist(), "unlabelled": unlabelled, "sha256": digest.hexdigest()}
