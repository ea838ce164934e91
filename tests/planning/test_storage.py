"""What reading from a bucket costs, against figures worked out by hand."""

import dataclasses

import pytest

from pipeline.configuration.hyperparameters import Hyperparameters
from pipeline.planning import storage


def test_imagenet_for_350_epochs_on_eight_hosts():
    hparams = dataclasses.replace(
        Hyperparameters(**{field.name: 1 for field in dataclasses.fields(Hyperparameters)}),
        total_steps=109_375,  # of 4,096 images: 448 million
        batch_size=4096,
        evaluate_every_steps=312.5,
        num_train_examples=1_281_167,
        num_eval_examples=50_000,
    )
    cost = storage.reading(hparams, hosts=8)
    assert cost.requests == 448_000_000 + 351 * 50_000
    assert cost.dollars == pytest.approx(186.2, abs=0.1)  # 0.0004 dollars a thousand
    assert cost.gigabytes == pytest.approx(160, abs=1)
    assert cost.minutes == pytest.approx(2.66, abs=0.01)
    assert cost.staged_requests == pytest.approx(8 * 159.74e9 / 2**24, rel=1e-3)
    assert cost.staged_requests / cost.requests < 0.02
