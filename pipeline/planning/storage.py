"""The costs of reading a run's data from a bucket: requests, dollars and minutes, with and without a copy on each host.

array_record makes one request for each record, and staging one for each 16 MiB (`docs/storage.md`). Prices are list prices and
rates are assumptions; neither was measured on Google's machines.
"""

import dataclasses

from pipeline.configuration.hyperparameters import Hyperparameters

IMAGE_BYTES = 120_000  # of ImageNet, with the MCU index; other datasets differ
STAGING_BYTES_PER_SECOND = 1e9  # of a host
PIECE_BYTES = 16 * 1024**2
DOLLARS_PER_READ = 0.0004 / 1000  # class B operations, Standard storage in one region, November 2026


@dataclasses.dataclass(frozen=True)
class Reading:
    """The costs of reading over a whole run that is started once.

    Attributes:
      requests: requests with config.data.stage="none".
      dollars: their price.
      staged_requests: requests with "disk" or "memory".
      staged_dollars: their price.
      gigabytes: the data that a host copies.
      minutes: the time of the copy.
    """

    requests: float
    dollars: float
    staged_requests: float
    staged_dollars: float
    gigabytes: float
    minutes: float


def reading(hparams: Hyperparameters, hosts: int) -> Reading:
    """Returns the costs of data in a bucket in the machines' region."""
    evaluations = -(-hparams.total_steps // max(1, round(hparams.evaluate_every_steps)))
    requests = hparams.total_steps * hparams.batch_size + evaluations * hparams.num_eval_examples
    size = (hparams.num_train_examples + hparams.num_eval_examples) * IMAGE_BYTES
    staged = hosts * size / PIECE_BYTES
    return Reading(
        requests=requests,
        dollars=requests * DOLLARS_PER_READ,
        staged_requests=staged,
        staged_dollars=staged * DOLLARS_PER_READ,
        gigabytes=size / 1e9,
        minutes=size / STAGING_BYTES_PER_SECOND / 60,
    )


def describe(cost: Reading) -> str:
    """Returns the costs as one line."""
    return (
        f"with the data on gs://, stage='none': {cost.requests / 1e6:,.1f} million requests, {cost.dollars:,.2f} dollars; "
        f"'disk' or 'memory': {cost.gigabytes:,.1f} GB on each host in {cost.minutes:,.1f} minutes, "
        f"{cost.staged_requests / 1e3:,.1f} thousand requests, {cost.staged_dollars:,.2f} dollars a start"
    )
