"""Makes what is prepared in the tests: folders of images and a dataset of TFRecords."""

import itertools
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from pipeline.data.sources import open_source

JPEG = b"\xff\xd8\xff\xe0 the rest is not decoded, and so need not be an image: "
PNG = b"\x89PNG\r\n\x1a\n likewise "
CLASSES = ("cat", "dog", "owl")


def make_image_folder(root: pathlib.Path, each: int = 4) -> dict[str, bytes]:
    """Writes train and test, and returns the content of each file by its path below `root`."""
    files = {}
    for split, class_name, index in itertools.product(("train", "test"), CLASSES, range(each)):
        path = f"{split}/{class_name}/{index:03d}.jpg"
        files[path] = JPEG + path.encode() + bytes(range(256))
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(files[path])
    return files


def contents(data_dir, name: str, splits=("train", "test")) -> dict[str, tuple[bytes, str]]:
    """Reads a dataset back: (image, class name) by split and file name."""
    read = {}
    for split in splits:
        source = open_source(name, split, str(data_dir))
        for record in range(len(source)):
            example = source[record]
            read[f"{split}/{source.describe(record)}"] = (example["image"], source.class_names[example["label"]])
    return read


def tfrecord_dataset(data_dir: pathlib.Path, labels: list[int], num_classes: int = 3) -> pathlib.Path:
    features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=num_classes)}
    images = [(i, {"image": np.full((4, 4, 3), i, np.uint8), "label": label}) for i, label in enumerate(labels)]
    builder = tfds.dataset_builders.AdhocBuilder(
        name="records",
        version="2.3.4",
        config="small",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": images, "test": images[:3]},
        data_dir=data_dir,
        file_format="tfrecord",
    )
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)
