"""Writes labelled images as a tfds dataset of ArrayRecord shards.

The bytes of an image are stored unchanged; JPEGs get their index afterwards (`jpeg_index.py`). A shard appears under its name
only when it is complete, and `dataset_info.json`, which makes the folder a dataset, is written last. So an interrupted
preparation continues at the first missing shard, and nothing incomplete is ever read. The order on disk is a fixed shuffle of
the keys, so any range of records, such as a hold-out, is mixed.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence

from etils import epath

from pipeline.errors import DataError
from pipeline.host.whole_files import PARTIAL, write_whole

VERSION = "1.0.0"
INCOMPLETE = "incomplete."  # prefix of the names of unfinished files and folders
_SHARD_BYTES = 200 * 1024**2  # of images; tfds uses shards of about this size too
_PLAN_FILE = "preparation.json"


@dataclasses.dataclass(frozen=True)
class Split:
    """One split to be written.

    Attributes:
        name: such as "train".
        keys: a unique text for each example; the keys decide the order on disk.
        labels: the class of each example, an index into the class names.
        read: returns the encoded image of the example at an index; called once per example, in the order on disk.
        image_bytes: the approximate size of an image; decides the number of shards.
    """

    name: str
    keys: Sequence[str]
    labels: Sequence[int]
    read: Callable[[int], bytes]
    image_bytes: int


def write_dataset(directory: epath.Path, splits: Sequence[Split], class_names: Sequence[str], description: str) -> None:
    """Writes `splits` to `directory`, which is `<data_dir>/<name>/<version>`, local or on gs://.

    Raises:
        DataError: the folder holds something else, such as a damaged dataset or the beginning of another one.
    """
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=list(class_names)),
            "file_name": tfds.features.Text(),
        }
    )
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=directory.parent.name, filetype_suffix="array_record"
    )
    directory.mkdir(parents=True, exist_ok=True)
    _check_plan(directory, splits, class_names)
    split_infos = []
    for split in splits:
        split_template = template.replace(split=split.name)
        lengths = _write_split(split, split_template, features)
        num_bytes = sum(_size(path) for path in directory.glob(f"*-{split.name}.array_record-*"))
        split_infos.append(tfds.core.SplitInfo(split.name, lengths, num_bytes, split_template))
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features,
        version=directory.name,
        split_infos=split_infos,
        check_data=False,
        description=description,
        supervised_keys=("image", "label"),
    )
    (directory / _PLAN_FILE).unlink()


def _size(path: epath.Path) -> int:
    """Returns the size of a file. epath would also look up its owner's name, which may not exist in a container."""
    return path.stat().length if "://" in os.fspath(path) else os.path.getsize(path)


def _check_plan(directory: epath.Path, splits: Sequence[Split], class_names: Sequence[str]) -> None:
    """Records what is being prepared, or compares it with the record of an interrupted preparation."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(
            json.dumps([split.name, split.image_bytes, list(split.keys), list(map(int, split.labels))]).encode()
        )
    plan = {"classes": list(class_names), "examples": digest.hexdigest()}
    path = directory / _PLAN_FILE
    if path.exists():
        try:
            begun = json.loads(path.read_bytes())
        except ValueError as error:
            raise DataError(f"{path} is damaged ({error}). Delete {directory} to begin again.") from error
        if begun != plan:
            raise DataError(
                f"{directory} holds the beginning of a dataset that was made from other images than those given now. "
                "Delete that folder to begin again."
            )
    elif any(other.suffix != PARTIAL for other in directory.iterdir()):
        raise DataError(f"{directory} is neither empty nor a dataset. Delete that folder or give another name.")
    else:
        write_whole(path, json.dumps(plan))


def _write_split(split: Split, template, features) -> list[int]:
    """Writes the missing shards and returns the number of examples in each shard."""
    import tqdm

    order = sorted(range(len(split.keys)), key=lambda i: hashlib.blake2b(split.keys[i].encode()).digest())
    num_shards = max(1, -(-len(order) * split.image_bytes // _SHARD_BYTES))
    bounds = [len(order) * i // num_shards for i in range(num_shards + 1)]
    with tqdm.tqdm(total=len(order), unit=" images", desc=split.name) as progress:
        for shard in range(num_shards):
            indices = order[bounds[shard] : bounds[shard + 1]]
            path = epath.Path(template.sharded_filepath(shard_index=shard, num_shards=num_shards))
            if not path.exists():
                write_shard(path, (_serialize(split, i, features) for i in indices))
            progress.update(len(indices))
    return [end - begin for begin, end in itertools.pairwise(bounds)]


def _serialize(split: Split, index: int, features) -> bytes:
    example = {"image": split.read(index), "label": split.labels[index], "file_name": split.keys[index]}
    return features.serialize_example(features.encode_example(example))


def write_shard(path: epath.Path, records) -> None:
    """Writes one ArrayRecord file atomically: after an error or a kill, `path` does not exist."""
    from array_record.python import array_record_module

    local = "://" not in os.fspath(path)
    with tempfile.TemporaryDirectory(dir=path.parent if local else None, prefix=INCOMPLETE) as folder:
        file = os.path.join(folder, path.name)
        # One record in a group, so it can be read alone; images are already compressed.
        writer = array_record_module.ArrayRecordWriter(file, "group_size:1,uncompressed")
        for record in records:
            writer.write(record)
        writer.close()
        if local:
            os.replace(file, path)
        else:
            with (
                open(file, "rb") as source,
                path.open("wb") as target,
            ):  # an object appears complete, and not after an error
                shutil.copyfileobj(source, target, length=16 * 1024**2)
