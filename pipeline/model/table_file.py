"""Reads and writes a network as a JSON file: a row that gives stem, head and family, a table of stages, and multipliers.

A search writes such files, and people may edit them. `config.model.variant` takes the path of one. The file counts when a
command starts: runs and weights keep the table itself, so they do not change with the file.
"""

import dataclasses
import json
import typing
from collections.abc import Sequence

from pipeline.errors import ConfigError
from pipeline.model import notation
from pipeline.model.specs import StageSpec

SUFFIX = ".json"
_FIELDS = ("row", "depth", "width", "resolution", "stages")
_STAGE_TYPES = typing.get_type_hints(StageSpec)


def write(row: str, stages: Sequence[StageSpec], *, depth: float, width: float, resolution: int) -> str:
    """Returns the text of a file; see `ScaledVariant` for the arguments."""
    table = [dataclasses.asdict(stage) for stage in stages]
    return json.dumps(dict(zip(_FIELDS, (row, depth, width, resolution, table))), indent=1) + "\n"


def read(path: str) -> str:
    """Returns the network of a file as text that `variants.py` reads.

    Raises:
      ConfigError: the file cannot be read, or does not describe a network.
    """
    from etils import epath  # here, as few commands read such a file

    try:
        content = json.loads(epath.Path(path).read_text())
        if not isinstance(content, dict) or set(content) != set(_FIELDS):
            raise ValueError(f"expected an object of {', '.join(_FIELDS)}")
        stages = [_stage(stage) for stage in content["stages"]]
        row, *numbers = (content[field] for field in _FIELDS[:-1])
        if not isinstance(row, str) or not all(type(number) in (int, float) for number in numbers):
            raise ValueError("row is a name; depth, width and resolution are numbers")
        text = notation.write(stages)
        notation.read(text)  # checks the numbers
    except OSError as error:
        raise ConfigError(f"the table {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:  # ConfigError too
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not a table of stages, as pipeline.search writes them: {reason:.300}") from error
    depth, width, resolution = numbers
    return f"{row}/{text}:depth={depth:.10g},width={width:.10g},resolution={resolution:.10g}"


def _stage(content: object) -> StageSpec:
    if not isinstance(content, dict) or set(content) != set(_STAGE_TYPES):
        raise ValueError(f"each stage needs {', '.join(_STAGE_TYPES)}")
    for name, kind in _STAGE_TYPES.items():
        if type(content[name]) is not kind and not (kind is float and type(content[name]) is int):
            raise ValueError(f"a stage's {name} is {content[name]!r:.40}, which is not of type {kind.__name__}")
    return StageSpec(**content)
