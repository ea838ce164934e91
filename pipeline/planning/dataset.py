"""The sizes of the dataset that a configuration names, whether or not it is prepared here.

They come from flags, the prepared dataset, or the known sizes of ImageNet.
"""

import dataclasses

from ml_collections import ConfigDict

from pipeline.data.sources import open_source
from pipeline.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class DatasetSize:
    """The number of classes, and of examples in the training and evaluation splits."""

    num_classes: int
    num_train_examples: int
    num_eval_examples: int


IMAGENET = DatasetSize(1000, 1_281_167, 50_000)  # ILSVRC 2012


def dataset_size(config: ConfigDict, stated: DatasetSize | None = None, advice: str = "prepare it") -> DatasetSize:
    """Returns the stated sizes, else those of the prepared dataset, else ImageNet's for ImageNet.

    Args:
      config: The configuration; `data` names the dataset and its splits.
      stated: The sizes, if the user states them.
      advice: What the user can do if the sizes are unknown, for the error.

    Raises:
      ConfigError: the dataset is not prepared here and its sizes are unknown.
    """
    if stated is not None:
        return stated
    data = config.data
    try:
        train = open_source(data.name, data.train_split, data.data_dir)
        evaluation = open_source(data.name, data.eval_split, data.data_dir)
        return DatasetSize(train.num_classes, len(train), len(evaluation))
    except DataError as error:
        if data.name == "imagenet2012" and (data.train_split, data.eval_split) == ("train", "validation"):
            return IMAGENET
        raise ConfigError(f"the sizes of {data.name!r} are not known here: {advice} ({error})") from error
