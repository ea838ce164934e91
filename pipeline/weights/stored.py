"""The tensors of a file before their numbers are read: their descriptions, and functions that read them.

A reader lists a `StoredTensor` for each name. Names, shapes, types and the total size are compared with the network, and only
then are numbers read. So a file takes no more memory than its own length, whatever it claims.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from pipeline.errors import DataError
from pipeline.host.printable import printable
from pipeline.weights.names import Tensor

MAX_TENSORS = 10_000  # L2, the largest of the family, has 1,654
FLOAT32 = ("float32",)
EXACT_IN_FLOAT32 = ("float32", "float16", "bfloat16")
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_LISTED = 12  # tensors that one error names


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its shape, NumPy's name of its dtype, and a function that reads it."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class StoredTensors(Mapping[str, StoredTensor]):
    """The tensors of a file by name.

    Attributes:
      tensors: The tensors by name.
      where: The file, for errors.
      available_bytes: The size of the file's data; the tensors that are read may not take more.
    """

    tensors: dict[str, StoredTensor]
    where: str
    available_bytes: int

    def __post_init__(self):
        if len(self.tensors) > MAX_TENSORS:
            raise DataError(f"{self.where} holds {len(self.tensors):,} tensors: no network of the family has that many")

    def __getitem__(self, name: str) -> StoredTensor:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def read(self, table: tuple[Tensor, ...], convention: str, as_what: str = "") -> dict[str, np.ndarray]:
        """Reads the tensors of a network.

        Args:
          table: The network's tensors.
          convention: The naming convention of the file.
          as_what: What the file was read as, for the error.

        Returns:
          float32 arrays by our paths, in our layout.

        Raises:
          DataError: the tensors are not exactly those of the table, exceed the file's data, or cannot be read.
        """
        check_tensors(table, self.tensors, convention, self.where + as_what, EXACT_IN_FLOAT32)
        chosen = {tensor.path: (tensor, self.tensors[tensor.name_in(convention)]) for tensor in table}
        needed = sum(math.prod(stored.shape) * _BYTES[stored.dtype] for _, stored in chosen.values())
        if needed > self.available_bytes:
            raise DataError(
                f"{self.where}: its tensors take {needed:,} bytes, and the file has {self.available_bytes:,}: it is cut "
                "off, or its tensors share their numbers"
            )
        arrays = {}
        for path, (tensor, stored) in chosen.items():
            name = printable(tensor.name_in(convention))
            try:
                array = np.asarray(stored.read())
            except DataError:
                raise
            except Exception as error:  # damage makes the libraries raise errors of many types
                reason = printable(f"{type(error).__name__}: {error}")
                raise DataError(f"{self.where}: {name} cannot be read: {reason}") from error
            if array.shape != tuple(stored.shape):
                raise DataError(f"{self.where}: {name} has the shape {array.shape}, not {stored.shape}")
            arrays[path] = tensor.from_convention(array.astype(np.float32), convention)
        return arrays


def check_tensors(
    table: tuple[Tensor, ...],
    tensors: Mapping[str, StoredTensor | np.ndarray],
    convention: str,
    where: str,
    dtypes: tuple[str, ...] = FLOAT32,
) -> None:
    """Compares names, shapes and dtypes with those of a network.

    Args:
      table: The network's tensors.
      tensors: Arrays, or a file's descriptions of them.
      convention: Their naming convention.
      where: The file, for the error.
      dtypes: The allowed dtypes.

    Raises:
      DataError: tensors are missing, unexpected, misshapen or of another dtype; the message lists all of them.
    """
    expected = {tensor.name_in(convention): tensor.shape_in(convention) for tensor in table}
    problems = [f"{name} {shape} is missing" for name, shape in expected.items() if name not in tensors]
    problems += [f"{printable(name)} is unexpected" for name in tensors if name not in expected]
    for name, shape in expected.items():
        if name in tensors and tuple(tensors[name].shape) != shape:
            problems.append(f"{name} has the shape {tuple(tensors[name].shape)}, not {shape}")
        elif name in tensors and str(tensors[name].dtype) not in dtypes:
            problems.append(f"{name} is {printable(str(tensors[name].dtype))}, not {' or '.join(dtypes)}")
    if problems:
        more = f"; and {len(problems) - _LISTED:,} more" if len(problems) > _LISTED else ""
        raise DataError(f"{where}: these tensors do not fit: {'; '.join(problems[:_LISTED])}{more}")
