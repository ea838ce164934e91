"""Parses the TPU compiler's text of a program: cycles, kinds of work, collectives, memory.

The text is the optimised and scheduled HLO of XLA:TPU. The compiler annotates each scheduled instruction with its estimate of
cycles. Instructions inside a fusion have none and count with the fusion. The body of a loop counts as often as the known trip
count.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

FORMAT_VERSION = 1  # raise it when the counting changes: cached results of another version are not used
KINDS = ("matrix", "depthwise", "batch_norm", "layout", "elementwise")
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"([a-z]+(\d+)\w*|pred)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|body|to_apply)=%([\w.\-]+)|branch_computations=\{([^}]*)\}")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_DEPTHWISE = re.compile(r"depthwise_conv/.*conv_general_dilated")
_BATCH_NORM = re.compile(r"/(\w+_)?bn/")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program."""

    name: str
    opcode: str
    size: int  # bytes of the output, without the padding of its layout
    cycles: int  # 0 if the compiler gives no estimate
    op_name: str  # its origin in the source, such as "jit(train_step)/…/blocks_1_0/expand_bn/mul"
    depthwise: bool
    called: tuple[str, ...]
    trips: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """The work of one device."""

    cycles: int
    cycles_by_kind: dict[str, int]  # by KINDS; they sum to `cycles`
    collectives: dict[str, int]  # number of each of COLLECTIVES that occurs
    collective_bytes: int
    largest: list[tuple[str, int]]  # (origin, bytes) of the largest arrays


def summarize(text: str) -> Summary:
    """Adds up the optimised HLO text of a compiled program.

    Raises:
      ValueError: the text has no entry computation, so it is not XLA:TPU's.
    """
    computations, entry = _parse(text)
    by_kind = dict.fromkeys(KINDS, 0)
    counts: collections.Counter = collections.Counter()
    moved = 0
    sizes: dict[str, int] = {}
    for instruction, times in _executed(computations, entry):
        if instruction.cycles:
            by_kind[_kind(instruction, computations)] += instruction.cycles * times
        for inner in (instruction, *_fused(instruction, computations)):
            opcode = inner.opcode.removesuffix("-start")
            if opcode in COLLECTIVES:
                counts[opcode] += times
                moved += inner.size * times
        if instruction.opcode not in ("parameter", "tuple", "get-tuple-element", "bitcast", "while"):
            label = f"{instruction.op_name or instruction.opcode} ({instruction.name})"
            sizes[label] = instruction.size
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:8]
    return Summary(sum(by_kind.values()), by_kind, dict(counts), moved, largest)


def _parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    computations: dict[str, list[Instruction]] = {}
    entry, body = "", None
    for line in text.splitlines():
        if heading := _COMPUTATION.match(line):
            body = computations.setdefault(heading[2], [])
            entry = heading[2] if heading[1] else entry
        elif body is not None and (found := _INSTRUCTION.match(line)):
            body.append(_instruction(found, line))
    if not entry:
        raise ValueError("no entry computation in the compiler's text")
    return computations, entry


def _instruction(found: re.Match, line: str) -> Instruction:
    cycles, trips, op_name = _CYCLES.search(line), _TRIPS.search(line), _OP_NAME.search(line)
    called = [name for single, several in _CALLED.findall(line) for name in (single, *several.split(", ")) if name]
    return Instruction(
        name=found[1],
        opcode=found[3],
        size=_bytes(found[2]),
        cycles=int(cycles[1]) if cycles else 0,
        op_name=op_name[1] if op_name else "",
        depthwise="Depthwise" in line or bool(op_name and _DEPTHWISE.search(op_name[1])),
        called=tuple(name.removeprefix("%") for name in called),
        trips=int(trips[1]) if trips else 1,
    )


def _bytes(shape: str) -> int:
    """Returns the bytes of an array or tuple in HLO's notation, such as "(bf16[32,8]{1,0}, f32[])"."""
    total = 0
    for dtype, digits, extents in _ARRAY.findall(shape):
        bits = int(digits) if dtype != "pred" else 8
        total += bits * math.prod(int(extent) for extent in extents.split(",") if extent) // 8
    return total


def _executed(
    computations: dict[str, list[Instruction]], name: str, times: int = 1
) -> Iterator[tuple[Instruction, int]]:
    """Yields the separately scheduled instructions and how often each runs."""
    for instruction in computations.get(name, ()):
        yield instruction, times
        if instruction.opcode in ("while", "conditional", "call", "async-start"):
            for called in instruction.called:
                yield from _executed(computations, called, times * instruction.trips)


def _fused(instruction: Instruction, computations: dict[str, list[Instruction]]) -> Iterator[Instruction]:
    if instruction.opcode == "fusion":
        for called in instruction.called:
            for inner in computations.get(called, ()):
                yield inner
                yield from _fused(inner, computations)


def _kind(instruction: Instruction, computations: dict[str, list[Instruction]]) -> str:
    opcodes = {instruction.opcode, *(inner.opcode for inner in _fused(instruction, computations))}
    if instruction.depthwise:
        return "depthwise"
    if opcodes & {"convolution", "dot"}:
        return "matrix"
    if _BATCH_NORM.search(instruction.op_name):
        return "batch_norm"
    if opcodes <= {"copy", "transpose", "bitcast", "reshape", "fusion", "parameter", "copy-start", "copy-done"}:
        return "layout"
    return "elementwise"
