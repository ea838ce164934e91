"""What a damaged image is to training: nothing. And its name, once, to people.

A transform gives a damaged image the weight 0, which keeps it out of the loss and of every metric. BatchNorm knows no weights,
so in training its pixels are those of the next row that is not damaged: the batch's statistics are those of images that the
network sees anyway. Its label and its record stay. Which row that is follows from the order of the rows alone, whoever makes
the batch. In evaluation, where the running statistics normalise, a black image is harmless. One in a million is not worth a
crash on the third day; thousands mean that the dataset or a disk is broken.
"""

import grain
from absl import logging

from pipeline.errors import DataError

_FURTHEST = (
    64  # rows to look for one that is not damaged; with half of all images damaged it lasts 10**19 rows to need more
)


class StandIns(grain.MapDataset):
    """The rows of `parent`, endless ones; those of weight 0 with the image of the next row that has a weight."""

    def __len__(self) -> int:
        return len(self._parent)

    def __getitem__(self, index: int) -> dict:
        """Returns a row.

        Raises:
            DataError: this row and all those that could stand in for it are damaged.
        """
        row = self._parent[index]
        if row["weight"] > 0:
            return row
        for distance in range(1, _FURTHEST + 1):
            other = self._parent[index + distance]
            if other["weight"] > 0:
                return {**row, "image": other["image"]}
        raise DataError(
            f"record {row['record']} and the {_FURTHEST} that follow it in the order of training cannot be decoded: "
            "the dataset is broken, or of a format that is not read"
        )


class DamagedImages:
    """The damaged records that this process has met; the same record in another epoch is not counted again."""

    def __init__(self, source, limit: int | None):
        """Starts with none. `limit`: how many are tolerated; None: any number."""
        self._source = source
        self._limit = limit
        self._records = set()

    def check(self, batch: dict) -> None:
        """Notes the damaged rows of a batch.

        Raises:
            DataError: they are more than the limit now.
        """
        damaged = batch["record"][(batch["weight"] == 0) & (batch["record"] >= 0)]  # padding has no record
        for record in sorted(set(damaged.tolist()) - self._records):
            self._records.add(record)
            name = f"record {record} ({self._source.describe(record)})"
            logging.warning("Damaged image, left out: %s of %r", name, self._source)
            if self._limit is not None and len(self._records) > self._limit:
                raise DataError(
                    f"{len(self._records)} damaged images in {self._source!r}, the last one {name}; more than "
                    f"config.data.max_bad_images={self._limit}. The log names all of them."
                )
