"""The families of networks: one module each, with its tables of stages, its rounding rule and its defaults.

`VARIANTS` has every named network. A new family is a new module and a line here; CONTRIBUTING.md lists the other places.
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
