"""A small EfficientNet for images of 16 to 64 pixels, this project's own.

To try another network for small images, edit the table or add a row.
"""

from pipeline.model.specs import Baseline, Family, StageSpec, Variant

FAMILY = Family(name="mini", activation="swish", survival_probability=0.8)

MINI = Baseline(
    family=FAMILY,
    stages=(
        # repeats, kernel, strides, expand ratio, output filters
        StageSpec(1, 3, 2, 1, 16),
        StageSpec(2, 3, 1, 4, 24),
        StageSpec(2, 3, 2, 4, 48),
        StageSpec(2, 3, 2, 4, 96),
    ),
    stem_filters=16,
    stem_strides=1,
    head_filters=256,
    resolution=16,
    dropout_rate=0.2,
)

VARIANTS = {
    # width, depth, pixels, dropout
    "mini0": Variant(MINI, 1.0, 1.0, 16, 0.2),
    "mini1": Variant(MINI, 1.5, 1.5, 28, 0.2),
    "mini2": Variant(MINI, 2.0, 2.0, 64, 0.3),
}
