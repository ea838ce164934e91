"""Reads and writes tables of stages as text: "ir_r2_k3_s2_e4_c24_se0.25/er_r1_k3_s1_e4_c48".

Each word is a stage: the kind of its blocks ("ir" for MBConv, the inverted residual; "er" for Fused-MBConv; "dsa" for depthwise
separable), then repeats, kernel, stride, expansion, output channels and squeeze-and-excitation. Left out, an expansion is 1
and squeeze-and-excitation is none. Other kinds of blocks have no text.

Source: the notation of timm (pytorch-image-models, timm/models/_efficientnet_builder.py), with the squeeze relative to the
block's input.
"""

import re
from collections.abc import Sequence

from pipeline.errors import ConfigError
from pipeline.model.specs import StageSpec

SEPARATOR = "/"
WORDS = {"mbconv": "ir", "fused_mbconv": "er", "separable": "dsa"}
MOST_STAGES = 20
_KINDS = {word: kind for kind, word in WORDS.items()}
_STAGE = re.compile(
    r"(ir|er|dsa)_r([1-9]\d?)_k([1-9])_s([12])(?:_e([1-9]\d?))?_c([1-9]\d{0,3})(?:_se(1|0?\.\d{1,4}))?", re.ASCII
)


def write(stages: Sequence[StageSpec]) -> str:
    """Returns the text of a table.

    Raises:
      ConfigError: a stage has blocks of another kind.
    """
    return SEPARATOR.join(map(_word, stages))


def read(text: str) -> tuple[StageSpec, ...]:
    """Returns the table that a text describes.

    Raises:
      ConfigError: the text is malformed.
    """
    words = text.split(SEPARATOR)
    if len(words) > MOST_STAGES:
        raise ConfigError(f"there are {len(words)} stages; a table has at most {MOST_STAGES}")
    return tuple(map(_stage, words))


def _word(stage: StageSpec) -> str:
    if stage.block not in WORDS:
        raise ConfigError(f"blocks of the kind {stage.block!r} have no notation; those with one are {', '.join(WORDS)}")
    squeeze = f"_se{stage.se_ratio:g}" if stage.se_ratio else ""
    return (
        f"{WORDS[stage.block]}_r{stage.repeats}_k{stage.kernel_size}_s{stage.strides}_e{stage.expand_ratio}"
        f"_c{stage.output_filters}{squeeze}"
    )


def _stage(word: str) -> StageSpec:
    match = _STAGE.fullmatch(word)
    if match is None or int(match[3]) % 2 == 0:
        raise ConfigError(
            f"{word!r:.80} is no stage; write ir_r2_k3_s2_e4_c24_se0.25, er_… or dsa_…, with an odd kernel"
        )
    kind, repeats, kernel, strides, expansion, filters, squeeze = match.groups()
    return StageSpec(
        int(repeats), int(kernel), int(strides), int(expansion or 1), int(filters), _KINDS[kind], float(squeeze or 0)
    )
