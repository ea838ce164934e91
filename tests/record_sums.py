"""The checksum of the records of a step in plain Python, after MurmurHash3's published finalizer."""

from collections.abc import Iterable


def record_sum(records: Iterable[int], step: int, batch_size: int) -> int:
    """Returns the checksum of the records in the rows of a step, counted from 1."""
    first = (step - 1) * batch_size
    return sum(_mixed((_mixed(first + row) + int(record)) % 2**32) for row, record in enumerate(records)) % 2**32


def _mixed(value: int) -> int:
    value = (value ^ value >> 16) * 0x85EBCA6B % 2**32
    value = (value ^ value >> 13) * 0xC2B2AE35 % 2**32
    return value ^ value >> 16
