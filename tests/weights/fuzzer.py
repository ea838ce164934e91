"""Opens mutated weight files one after the other, in a process of its own with bounds on time and memory.

python -m tests.weights.fuzzer FOLDER NAME FIRST LAST: opens cases FIRST to LAST - 1 of a base in FOLDER. Each must come back as
weights, which then survive being written and read, or as one error of one printable line with the name of the file. A case
that takes 2 seconds of CPU ends the process, and more than 1 GB beside what the process had at the start cannot be had.
Without numbers FOLDER is a good file and NAME a folder, whose files are opened within the same bounds; a line is a name and an
error.
"""

import pathlib
import resource
import signal
import sys
import tempfile

from pipeline.errors import ConfigError, DataError
from pipeline.weights import directory
from pipeline.weights.opening import open_weights
from tests.configs import tiny  # noqa: F401 – registers the small network
from tests.weights.mutations import Base, bases, make
from tests.weights.samples import same

SECONDS, BYTES = 2, 1 << 30


def examine(path: pathlib.Path, folder: pathlib.Path) -> str:
    """Opens a file and returns what is wrong with how it was taken; nothing when all is well."""
    try:
        weights = open_weights(str(path))
    except (ConfigError, DataError) as error:
        text = str(error)
        if not text.replace("…", "").isprintable():
            return f"unprintable: {text!r}"
        return "" if str(folder) in text else f"names no file: {text}"
    (folder / "again").mkdir()
    directory.write(weights, folder / "again")
    again = directory.read(folder / "again")
    return "" if same(again, weights) and again.metadata == weights.metadata else "does not survive writing"


def limit_memory(first: pathlib.Path) -> None:
    """Bounds the memory of the process, after a first file: what it imports and caches belongs to the start."""
    open_weights(str(first))
    taken = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + BYTES, taken + BYTES))


def open_mutations(base: Base, first: int, last: int) -> None:
    limit_memory(base.path)
    for seed in range(first, last):
        with tempfile.TemporaryDirectory() as folder:
            path = make(base, seed, pathlib.Path(folder))
            print(seed, end=" ", flush=True)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            problem = examine(path, pathlib.Path(folder))
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(problem or "ok", flush=True)


def open_files(good: pathlib.Path, folder: pathlib.Path) -> None:
    limit_memory(good)
    for path in sorted(folder.iterdir()):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            open_weights(str(path))
            print(path.name, "is taken", flush=True)
        except (ConfigError, DataError) as error:
            print(path.name, error, flush=True)


if __name__ == "__main__":
    where, name, *numbers = sys.argv[1:]
    if numbers:
        open_mutations(bases(pathlib.Path(where))[name], *map(int, numbers))
    else:
        open_files(pathlib.Path(where), pathlib.Path(name))
