"""What a preparation and a checkpoint ask of a bucket, beside the table of docs/storage.md, whose rows these counts are."""

import collections
import contextlib
import pathlib
import re

import jax.numpy as jnp
import pytest

from pipeline.data.preparation.datasets import prepare_digits
from pipeline.runtime.checkpoints import Checkpoints
from tests.runtime.test_checkpoints import abstract

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "storage.md"
CLASS_A, CLASS_B = ("write", "list", "compose", "copy"), ("read", "stat")
SHARE = 0.15  # of a count, that a retry may add; ranges on the page are those of several runs
_RANGE = r"(\d+)(?: to (\d+))?"


@contextlib.contextmanager
def as_on_the_page(server, row: str):
    """Compares the requests of the block with the last two columns of a row."""
    columns = rf"\| {_RANGE} \| {_RANGE} / {_RANGE} \|"
    (found,) = re.findall(rf"^\| {re.escape(row)} \|.*{columns}$", PAGE.read_text(), re.MULTILINE)
    with server.counted() as counts:
        yield
    kinds = collections.Counter()
    for (_, kind), count in counts.items():
        kinds[kind] += count
    seen = sum(kinds.values()), sum(kinds[kind] for kind in CLASS_A), sum(kinds[kind] for kind in CLASS_B)
    print(f"| {row} | {seen[0]} | {seen[1]} / {seen[2]} |")
    for count, low, high in zip(seen, found[::2], found[1::2]):
        assert int(low) * (1 - SHARE) - 1 <= count <= int(high or low) * (1 + SHARE) + 1, (row, seen)


def test_a_preparation(server):
    with as_on_the_page(server, "`prepare` of 1,797 images in two shards"):
        prepare_digits("gs://bucket/prepared")


@pytest.mark.slow
def test_a_checkpoint_of_a_thousand_arrays(server):
    state = {f"array {number}": jnp.full((8, 8), number, jnp.float32) for number in range(1000)}
    written = as_on_the_page(server, "a checkpoint of 1,000 arrays, written")
    with Checkpoints("gs://bucket/counted", keep=5) as checkpoints, written:
        checkpoints.save(1, state, {})
        checkpoints.wait()
    with Checkpoints("gs://bucket/counted", keep=5) as checkpoints, as_on_the_page(server, "the same, read"):
        checkpoints.restore_newest(abstract(state))
