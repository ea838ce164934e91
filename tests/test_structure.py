"""Arrows between packages run one way, and neither modules nor folders grow without end."""

import ast
import pathlib
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
# A package imports from those before it, and from no other.
LAYERS = (
    "errors",
    "storage",
    "host",
    "model",
    "configuration",
    "data",
    "runtime",
    "reporting",
    "weights",
    "training",
    "planning",
    "benchmarks",
    "command",
    "trials",
    "scaling",
    "search",
)
LAUNCHER_LAYERS = ("services", "plane", "job", "worker", "slices", "starting")  # of launch/pod, in the same order
MOST_LINES = 320
MOST_MODULES = 12
MANY_FORMATS = "pipeline/weights"  # a reader and a writer for each format
COMMANDS = "pipeline"  # a module for each command, which is what people type; `errors` and `command` are theirs
PLANNING_WITHOUT = ("training", "weights")  # a plan is made of a program that it is given


def imported(path: pathlib.Path) -> Iterator[str]:
    """Yields the dotted names that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports are not used here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(top: str) -> Iterator[tuple[str, str, str]]:
    """Yields (module, its package, the package it imports from) for all imports within a folder such as `pipeline`."""
    folder = ROOT / top
    for path in sorted(folder.rglob("*.py")):
        module = path.relative_to(folder).with_suffix("")
        for name in imported(path):
            package, *rest = name.split(".")
            if package == folder.name and rest[0] != module.parts[0]:
                yield str(module), module.parts[0], rest[0]


def test_arrows_between_packages_run_one_way():
    found = list(arrows("pipeline"))
    assert len(found) > 200
    for module, package, target in found:
        assert target in LAYERS, f"{module} imports from {target}, a command"
        if package in LAYERS:  # else it is a command
            assert LAYERS.index(target) < LAYERS.index(package), f"{module} imports from {target}"
        if package == "planning":
            assert target not in PLANNING_WITHOUT, f"{module} imports from {target}"


def test_arrows_between_the_launchers_packages_run_one_way():
    found = [arrow for arrow in arrows("launch/pod") if {*arrow[1:]} <= {*LAUNCHER_LAYERS}]
    assert {package for _, package, _ in found} == {*LAUNCHER_LAYERS[1:]}
    for module, package, target in found:
        assert LAUNCHER_LAYERS.index(target) < LAUNCHER_LAYERS.index(package), f"{module} imports from {target}"


def sources() -> list[pathlib.Path]:
    return [path for folder in ("pipeline", "launch", "configs") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_module_is_long():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_no_folder_is_a_flat_shelf():
    folders = {path.parent for path in sources()} - {ROOT / "configs"}
    counts = {
        str(folder.relative_to(ROOT)): sum(path.name != "__init__.py" for path in folder.glob("*.py"))
        for folder in folders
    }
    del counts[MANY_FORMATS], counts[COMMANDS]
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}
