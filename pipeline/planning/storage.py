"""What reading the data from a bucket costs a run: requests, dollars and minutes, with and without a copy on each host.

By `docs/storage.md`: array_record makes one request for each record, and staging one for each 16 MiB. Prices are list prices
and rates assumptions, both named here; neither is measured on Google's machines.
"""

import dataclasses

from pipeline.configuration.hyperparameters import Hyperparameters

IMAGE_BYTES = 120_000  # of ImageNet, with the restart index; other datasets differ
STAGING_BYTES_PER_SECOND = 1e9  # of a host
PIECE_BYTES = 16 * 1024**2
DOLLARS_PER_READ = 0.0004 / 1000  # class B operations, Standard storage in one region, November 2026


@dataclasses.dataclass(frozen=True)
class Reading:
    """What reading costs over a whole run that is started once.

    Attributes:
      requests: with config.data.stage="none".
      dollars: for these.
      staged_requests: with "disk" or "memory", once all is there.
      staged_dollars: for these.
      gigabytes: that a host copies.
      minutes: that this takes.
    """

    requests: float
    dollars: float
    staged_requests: float
    staged_dollars: float
    gigabytes: float
    minutes: float


def reading(hparams: Hyperparameters, hosts: int) -> Reading:
    """Returns what a run's data cost when they lie in a bucket in the region of the machines."""
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
