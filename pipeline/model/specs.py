"""What a network is made of, as plain data: stages of a baseline, blocks and architectures.

Nothing here imports JAX or computes a width from a multiplier (`scaling.py` does); a `BlockSpec` only derives what
follows from its own fields. Invariant: an `Architecture` says everything about a network's shape except the number of
classes.

Source: [code] tensorflow/tpu, models/official/efficientnet, efficientnet_builder.py and efficientnet_model.py.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """One row of a baseline's table: `repeats` blocks, of which the first has the stride and changes the width."""

    repeats: int
    kernel_size: int
    strides: int
    expand_ratio: int
    output_filters: int


@dataclasses.dataclass(frozen=True)
class Baseline:
    """An unscaled network and the rounding rules of its family.

    Attributes:
      family: Name shown to the user.
      stages: The table.
      stem_filters: Output channels of the 3x3 stem convolution.
      stem_strides: Stride of the stem.
      head_filters: Output channels of the last 1x1 convolution.
      resolution: Side of the square input, in pixels.
      dropout_rate: Before the classifier.
      activation: "swish" or "relu6".
      se_ratio: Width of squeeze-and-excitation relative to the input of the block; 0 leaves it out.
      fixed_head_stem: Lite: stem, head and the repeats of the first and the last stage are not scaled.
      limit_rounding_loss: Whether rounding may not take away more than a tenth of a width. The first EfficientNet code
      has
        this rule (it decides stage 1 of B3: 24 channels, not 16); the later EfficientNetV2 code dropped it.
    """

    family: str
    stages: tuple[StageSpec, ...]
    stem_filters: int
    stem_strides: int
    head_filters: int
    resolution: int
    dropout_rate: float
    activation: str = "swish"
    se_ratio: float = 0.25
    fixed_head_stem: bool = False
    limit_rounding_loss: bool = True


@dataclasses.dataclass(frozen=True)
class BlockSpec:
    """One mobile inverted bottleneck block, fully resolved.

    Attributes:
      stage: 0-based stage.
      repeat: 0-based position in the stage.
      kernel_size: Side of the depthwise kernel.
      strides: Stride of the depthwise convolution.
      expand_ratio: Width of the depthwise convolution relative to the input; 1 means that there is no expansion.
      input_filters: Channels that come in.
      output_filters: Channels that go out.
      se_ratio: Squeeze width relative to `input_filters`; 0 for none.
    """

    stage: int
    repeat: int
    kernel_size: int
    strides: int
    expand_ratio: int
    input_filters: int
    output_filters: int
    se_ratio: float

    @property
    def name(self) -> str:
        """The name of the block's parameters, for example "blocks_2_0"."""
        return f"blocks_{self.stage}_{self.repeat}"

    @property
    def expanded_filters(self) -> int:
        """Channels of the depthwise convolution."""
        return self.input_filters * self.expand_ratio

    @property
    def se_filters(self) -> int:
        """Channels of the squeeze, from the block's input and not from the expanded width [code]; 0 for none."""
        return max(1, int(self.input_filters * self.se_ratio)) if self.se_ratio else 0

    @property
    def skip(self) -> bool:
        """Whether the input is added to the output; only then drop-connect applies."""
        return self.strides == 1 and self.input_filters == self.output_filters


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network ready to be built: see `Baseline` for the attributes that both have."""

    name: str
    family: str
    width: float
    depth: float
    blocks: tuple[BlockSpec, ...]
    stem_filters: int
    stem_strides: int
    head_filters: int
    resolution: int
    dropout_rate: float
    activation: str
