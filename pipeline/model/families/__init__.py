"""The families of networks: a module for each, with its table of stages, its rounding rule and its defaults.

`VARIANTS` has every named network. A new family is a module like the others and a line here; what it needs beyond the
kinds of blocks of `model/specs.py` goes there. Nothing outside this folder asks which family a network is of.
"""

from pipeline.model.families import (
    efficientnet,
    efficientnet_v2,
    lite,
    mini,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
)
from pipeline.model.specs import Variant

VARIANTS: dict[str, Variant] = {
    **efficientnet.VARIANTS,
    **lite.VARIANTS,
    **efficientnet_v2.VARIANTS,
    **mobilenet_v1.VARIANTS,
    **mobilenet_v2.VARIANTS,
    **resnet.VARIANTS,
    **mini.VARIANTS,
}
