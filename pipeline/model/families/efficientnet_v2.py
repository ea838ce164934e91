"""EfficientNetV2: S, M, L, XL, and B0 to B3.

Widths are rounded without the ten-percent rule of the first generation. Only B3 differs by that: 16 * 1.2 rounds to 16 channels
here and would round to 24 there. The resolution of a variant is that of evaluation; training uses a smaller one.

Source: google/automl, efficientnetv2/effnetv2_configs.py and effnetv2_model.py; Tan and Le, arXiv 2104.00298, table 4 (whose
BatchNorm momentum of 0.99 differs from the code's 0.9). Weight decay excludes names with bias, gamma or beta (hparams.py).
"""

from pipeline.model.specs import Baseline, Family, StageSpec, Variant

FAMILY = Family(
    name="efficientnet-v2",
    activation="swish",
    bn_momentum=0.9,
    survival_probability=0.8,
    weight_decay="kernels",
    preprocessing="v2",
    limit_rounding_loss=False,
)


def _fused(repeats: int, strides: int, expand_ratio: int, output_filters: int) -> StageSpec:
    return StageSpec(repeats, 3, strides, expand_ratio, output_filters, block="fused_mbconv", se_ratio=0.0)


def _mbconv(repeats: int, strides: int, expand_ratio: int, output_filters: int) -> StageSpec:
    return StageSpec(repeats, 3, strides, expand_ratio, output_filters)


def _baseline(stem_filters: int, resolution: int, dropout_rate: float, *stages: StageSpec) -> Baseline:
    return Baseline(
        family=FAMILY,
        stages=stages,
        stem_filters=stem_filters,
        stem_strides=2,
        head_filters=1280,
        resolution=resolution,
        dropout_rate=dropout_rate,
    )


# Each stage: repeats, strides, expand ratio, output filters.
B0 = _baseline(
    *(32, 224, 0.2),
    *(_fused(1, 1, 1, 16), _fused(2, 2, 4, 32), _fused(2, 2, 4, 48)),
    *(_mbconv(3, 2, 4, 96), _mbconv(5, 1, 6, 112), _mbconv(8, 2, 6, 192)),
)
S = _baseline(
    *(24, 384, 0.2),
    *(_fused(2, 1, 1, 24), _fused(4, 2, 4, 48), _fused(4, 2, 4, 64)),
    *(_mbconv(6, 2, 4, 128), _mbconv(9, 1, 6, 160), _mbconv(15, 2, 6, 256)),
)
M = _baseline(
    *(24, 480, 0.3),
    *(_fused(3, 1, 1, 24), _fused(5, 2, 4, 48), _fused(5, 2, 4, 80)),
    *(_mbconv(7, 2, 4, 160), _mbconv(14, 1, 6, 176), _mbconv(18, 2, 6, 304), _mbconv(5, 1, 6, 512)),
)
L = _baseline(
    *(32, 480, 0.4),
    *(_fused(4, 1, 1, 32), _fused(7, 2, 4, 64), _fused(7, 2, 4, 96)),
    *(_mbconv(10, 2, 4, 192), _mbconv(19, 1, 6, 224), _mbconv(25, 2, 6, 384), _mbconv(7, 1, 6, 640)),
)
XL = _baseline(
    *(32, 512, 0.4),
    *(_fused(4, 1, 1, 32), _fused(8, 2, 4, 64), _fused(8, 2, 4, 96)),
    *(_mbconv(16, 2, 4, 192), _mbconv(24, 1, 6, 256), _mbconv(32, 2, 6, 512), _mbconv(8, 1, 6, 640)),
)

VARIANTS = {
    # width, depth, pixels, dropout
    "v2_b0": Variant(B0, 1.0, 1.0, 224, 0.2),
    "v2_b1": Variant(B0, 1.0, 1.1, 240, 0.2),
    "v2_b2": Variant(B0, 1.1, 1.2, 260, 0.3),
    "v2_b3": Variant(B0, 1.2, 1.4, 300, 0.3),
    "v2_s": Variant(S, 1.0, 1.0, 384, 0.2),
    "v2_m": Variant(M, 1.0, 1.0, 480, 0.3),
    "v2_l": Variant(L, 1.0, 1.0, 480, 0.4),
    "v2_xl": Variant(XL, 1.0, 1.0, 512, 0.4),
}
