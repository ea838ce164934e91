"""Counts the damaged pictures of a run, names each once, and ends the run when there are too many.

A transform gives a damaged picture the weight 0, so that it counts for nothing. One in a million is not worth a crash on the
third day; thousands mean that the dataset or a disk is broken.
"""

from absl import logging

from pipeline.errors import DataError


class DamagedPictures:
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
        for record in set(damaged.tolist()) - self._records:
            self._records.add(record)
            name = f"record {record} ({self._source.describe(record)})"
            logging.warning("Damaged picture, left out: %s of %r", name, self._source)
            if self._limit is not None and len(self._records) > self._limit:
                raise DataError(
                    f"{len(self._records)} damaged pictures in {self._source!r}, the last one {name}; more than "
                    f"config.data.max_bad_images={self._limit}. The log names all of them."
                )
