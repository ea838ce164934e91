"""EfficientNet, B0 to B8 and L2.

Source: Tan and Le, arXiv 1905.11946, table 1; tensorflow/tpu, models/official/efficientnet, efficientnet_builder.py (B8 and L2
are in the code only).
"""

from pipeline.model.specs import Baseline, Family, StageSpec, Variant

FAMILY = Family(name="efficientnet", activation="swish", survival_probability=0.8)

B0 = Baseline(
    family=FAMILY,
    stages=(
        # repeats, kernel, strides, expand ratio, output filters
        StageSpec(1, 3, 1, 1, 16),
        StageSpec(2, 3, 2, 6, 24),
        StageSpec(2, 5, 2, 6, 40),
        StageSpec(3, 3, 2, 6, 80),
        StageSpec(3, 5, 1, 6, 112),
        StageSpec(4, 5, 2, 6, 192),
        StageSpec(1, 3, 1, 6, 320),
    ),
    stem_filters=32,
    stem_strides=2,
    head_filters=1280,
    resolution=224,
    dropout_rate=0.2,
)

VARIANTS = {
    # width, depth, pixels, dropout
    "b0": Variant(B0, 1.0, 1.0, 224, 0.2),
    "b1": Variant(B0, 1.0, 1.1, 240, 0.2),
    "b2": Variant(B0, 1.1, 1.2, 260, 0.3),
    "b3": Variant(B0, 1.2, 1.4, 300, 0.3),
    "b4": Variant(B0, 1.4, 1.8, 380, 0.4),
    "b5": Variant(B0, 1.6, 2.2, 456, 0.4),
    "b6": Variant(B0, 1.8, 2.6, 528, 0.5),
    "b7": Variant(B0, 2.0, 3.1, 600, 0.5),
    "b8": Variant(B0, 2.2, 3.6, 672, 0.5),
    "l2": Variant(B0, 4.3, 5.3, 800, 0.5),
}
