"""Interprets the part of Python's pickle that describes PyTorch's tensors, without running anything.

A pickle is a program for a stack machine. The machine here knows numbers, strings, lists, tuples, dictionaries, tensors and
their storages, and refuses every other instruction or name. Each instruction adds at most one object, keys are text or
numbers, and the length is bounded. So no file can make it run or grow without end, which Python's own unpickler does not
guarantee. PyTorch's
format: torch/serialization.py.
"""

import dataclasses
import io
import math
import pickletools
from collections.abc import Callable
from typing import Any

from pipeline.host.printable import printable

LARGEST_BYTES = 1 << 22  # the description of L2 with averages and optimizer has about 1 MB
_MAX_INSTRUCTIONS = 500_000
_MAX_ARGUMENTS = 8  # of a call; also axes of a tensor
_DTYPES = {
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "DoubleStorage": ("float64", 8),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}
_VALUES = (
    *(
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "BINBYTES",
        "SHORT_BINBYTES",
    ),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class Refused(ValueError):
    """The pickle is damaged, or asks for something that is not a tensor."""


@dataclasses.dataclass
class Storage:
    """The numbers that tensors view: `elements` of a dtype. The reader of the file sets `read`."""

    key: str
    dtype: str
    itemsize: int
    elements: int
    read: Callable[[], bytes] | None = None

    @property
    def nbytes(self) -> int:
        return self.elements * self.itemsize


@dataclasses.dataclass(frozen=True)
class View:
    """A tensor in the pickle: a view of a storage, with offset, shape and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self):
        if len(self.shape) > _MAX_ARGUMENTS or len(self.shape) != len(self.strides):
            raise Refused("a tensor has not one stride for each axis")
        numbers = (self.offset, *self.shape, *self.strides)
        if any(type(value) is not int or not 0 <= value < 1 << 62 for value in numbers):
            raise Refused("a tensor's offset, shape or strides are negative or not integers")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        if 0 not in self.shape and last >= self.storage.elements:
            raise Refused(f"a tensor of shape {self.shape} leaves its storage of {self.storage.elements} elements")
        if math.prod(self.shape) > self.storage.elements:
            raise Refused(f"a tensor of shape {self.shape} views {self.storage.elements} elements")


class Machine:
    """Interprets one pickle; afterwards `storages` has the storages of its tensors by key."""

    def __init__(self):
        self.storages: dict[str, Storage] = {}
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._left = _MAX_INSTRUCTIONS

    def load(self, file: io.BytesIO) -> Any:
        """Returns the object of the pickle at the file's position, and moves the position after it.

        Raises:
          Refused: the pickle is damaged, too long, or asks for something that is not a tensor.
        """
        try:
            for instruction, argument, _ in pickletools.genops(file):
                self._spend(1)
                if instruction.name == "STOP":
                    (result,) = self._stack
                    return result
                self._run(instruction.name, argument)
        except Refused:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, MemoryError, OverflowError) as error:
            raise Refused(f"its pickle is damaged: {printable(str(error))}") from error
        raise Refused("its pickle does not end")

    def _run(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in ("EMPTY_LIST", "LIST"):
            stack.append(self._to_mark() if name == "LIST" else [])
        elif name in ("APPEND", "APPENDS"):
            items = self._to_mark() if name == "APPENDS" else self._pop(1)
            _of_type(stack[-1], list).extend(items)
        elif name in ("EMPTY_DICT", "DICT"):
            stack.append(_paired(self._to_mark()) if name == "DICT" else {})
        elif name in ("SETITEM", "SETITEMS"):
            items = self._to_mark() if name == "SETITEMS" else self._pop(2)
            _of_type(stack[-1], dict).update(_paired(items))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, attribute = argument.split(" ", 1) if name == "GLOBAL" else self._pop(2)
            stack.append(_find(module, attribute))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            if not any(function is known for known in (_make_dictionary, _make_tensor, _make_parameter)):
                raise Refused("it calls something that does not make a tensor: refused")
            if function is _make_dictionary and arguments:
                self._spend(len(_of_type(arguments[0], list)))
            stack.append(function(*_few(arguments)))
        elif name == "BUILD":
            self._pop(1)  # attributes of a dictionary, such as the versions of modules
        elif name == "BINPERSID":
            stack.append(self._storage(*_few(*self._pop(1))))
        else:
            raise Refused(f"it has the instruction {name}, which does not describe a tensor: refused")

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Refused("it is longer than any description of tensors")

    def _pop(self, count: int) -> list:
        items = self._stack[-count:]
        if len(items) < count or any(item is _MARK for item in items):
            raise Refused("its pickle is damaged: the stack is empty")
        del self._stack[-count:]
        return items

    def _to_mark(self) -> list:
        """Pops the values above the newest mark, and the mark."""
        items = []
        while self._stack and self._stack[-1] is not _MARK:
            items.append(self._stack.pop())
        if not self._stack:
            raise Refused("its pickle is damaged: a mark is missing")
        self._stack.pop()
        return items[::-1]

    def _storage(self, tag: Any, dtype: Any, key: Any, _, elements: Any, *view) -> Storage:
        known = tag == "storage" and type(dtype) is tuple and dtype in _DTYPES.values() and not any(view)
        if not known or type(elements) is not int or not 0 <= elements < 1 << 62 or type(key) not in (str, int):
            raise Refused("it refers to something other than a storage of numbers: refused")
        storage = self.storages.setdefault(str(key), Storage(str(key), dtype[0], dtype[1], elements))
        if (storage.dtype, storage.elements) != (dtype[0], elements):
            raise Refused(f"storage {printable(str(key))} has two types or lengths")
        return storage


def _make_dictionary(*items) -> dict:
    return _paired([part for pair in (items[0] if items else ()) for part in _of_type(pair, (list, tuple))])


def _make_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_) -> View:
    return View(_of_type(storage, Storage), offset, _of_type(shape, tuple), _of_type(strides, tuple))


def _make_parameter(view: Any, *_) -> View:
    return _of_type(view, View)


def _find(module: Any, attribute: Any) -> Any:
    known = {
        ("collections", "OrderedDict"): _make_dictionary,
        ("torch._utils", "_rebuild_tensor_v2"): _make_tensor,
        ("torch._utils", "_rebuild_parameter"): _make_parameter,
    }
    if type(module) is not str or type(attribute) is not str:
        raise Refused("its pickle is damaged: a name is not text")
    if (module, attribute) in known:
        return known[module, attribute]
    if module == "torch" and attribute in _DTYPES:
        return _DTYPES[attribute]
    raise Refused(f"it asks for {printable(f'{module}.{attribute}')}, which is not a tensor: refused")


def _paired(items: list) -> dict:
    """Makes a dictionary of alternating keys and values; keys are text or numbers, which are cheap to hash."""
    if len(items) % 2 or any(type(key) not in (str, int) for key in items[::2]):
        raise Refused("a dictionary has keys that are neither text nor numbers")
    return dict(zip(items[::2], items[1::2]))


def _few(arguments: Any) -> tuple:
    if not isinstance(arguments, tuple) or len(arguments) > _MAX_ARGUMENTS:
        raise Refused("its pickle is damaged: a call's arguments are not a few")
    return arguments


def _of_type(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise Refused("its pickle is damaged: a value is of another type than its instruction takes")
    return value
