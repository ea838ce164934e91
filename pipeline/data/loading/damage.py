"""Keeps damaged images out of training, and names each of them once.

A damaged image gets weight 0, which keeps it out of the loss and the metrics. BatchNorm ignores weights, so in training the
image also takes the pixels of the next undamaged row; its label and its record stay. Which row that is depends on the order
of the rows alone. In evaluation the running statistics normalise, so a black image is harmless. One damaged image in a
million should not end a run; more than `data.max_bad_images` mean that the dataset or a disk is broken.
"""

from absl import logging

from pipeline.data.loading.rows import Rows
from pipeline.errors import DataError

_FURTHEST = 64  # rows to search; even if half of all images were damaged, one row in 10**19 would need more


class StandIns(Rows):
    """The endless rows of `parent`; a row of weight 0 takes the image of the next row with a positive weight."""

    def __len__(self) -> int:
        return len(self._parent)

    def row(self, index: int) -> dict:
        """Returns a row.

        Raises:
            DataError: this row and all rows that could replace it are damaged.
        """
        row = self.parents_row(index)
        if row["weight"] > 0:
            return row
        for distance in range(1, _FURTHEST + 1):
            other = self.parents_row(index + distance)
            if other["weight"] > 0:
                return {**row, "image": other["image"]}
        raise DataError(
            f"record {row['record']} and the {_FURTHEST} that follow it in the order of training cannot be decoded: "
            "the dataset is broken, or of a format that is not read"
        )


class DamagedImages:
    """The damaged records that this process has met; a record counts once, not once an epoch."""

    def __init__(self, source, limit: int | None):
        """`limit` is the number of damaged records that are tolerated; None: any number."""
        self._source = source
        self._limit = limit
        self._records = set()

    def check(self, batch: dict) -> None:
        """Notes the damaged rows of a batch.

        Raises:
            DataError: the limit is exceeded.
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
