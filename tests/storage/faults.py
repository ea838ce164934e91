"""Requests as the server of the tests sees them, and how they fail."""

import collections
import dataclasses
import random


@dataclasses.dataclass(frozen=True)
class Request:
    """What a client asked for.

    Attributes:
      method: Such as "GET".
      kind: "read", "write", "list", "stat", "delete", "compose", "copy" or "bucket".
      object: The key, "" where there is none.
      client: "array_record", "tensorstore" or "python".
      bytes: Of the content that went either way.
    """

    method: str
    kind: str
    object: str
    client: str
    bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Fault:
    """How a request fails.

    Attributes:
      kind: A status such as "429", or "reset before" (not done), "reset after" (done, but the answer is lost),
        "cut" (a part of the body, then a reset) or "slow" (answered, late).
    """

    kind: str


class SeededFaults:
    """Fails shares of the requests, by a fixed seed; give its `next` to `StorageServer.fault`.

    Attributes:
      made: How many have failed, by client and kind.
    """

    KINDS = ("429", "503", "500", "reset before", "reset after", "cut", "slow")

    def __init__(self, seed: int, shares: dict[str, float], most: int):
        """Fails at most `most` requests, of each client the share that `shares` says."""
        self._rng, self._shares, self._most = random.Random(seed), shares, most
        self.made = collections.Counter()

    def next(self, request: Request) -> Fault | None:
        if self.made.total() >= self._most or self._rng.random() >= self._shares[request.client]:
            return None
        kind = self._rng.choice(self.KINDS)
        self.made[request.client, kind] += 1
        return Fault(kind)
