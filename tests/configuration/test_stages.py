"""The stages of a run, against the authors' numbers and against what cannot work."""

import importlib

import pytest

from configs import recipe
from pipeline.configuration.stages import changed_by_duration, resolve_stages, stage_at
from pipeline.errors import ConfigError

# google/automl, efficientnetv2: 350 epochs of 1,256,144 images in batches of 4,096.
PUBLISHED_STEPS, PUBLISHED_STEPS_PER_EPOCH = 107_336, 1_256_144 / 4096
PUBLISHED_ENDS = (26_834, 53_668, 80_502, 107_336)
SIZES = {
    "v2_s": (171, 214, 257, 300),
    "v2_m": (192, 256, 320, 384),
    "v2_l": (192, 256, 320, 384),
    "v2_b0": (144, 160, 176, 192),
    "v2_b1": (144, 160, 176, 192),
    "v2_b2": (148, 168, 188, 208),
    "v2_b3": (156, 184, 212, 240),
}
COSTS = {"v2_s": 0.642, "v2_m": 0.597, "v2_l": 0.597, "v2_b0": 0.774, "v2_b2": 0.744, "v2_b3": 0.698}
MAGNITUDES = {"v2_s": (5, 6.67, 8.33, 10), "v2_m": (5, 8.33, 11.67, 15), "v2_l": (5, 10, 15, 20)}
ALPHAS = {"v2_m": (0, 0.067, 0.133, 0.2), "v2_l": (0, 0.167, 0.333, 0.5)}
DROPOUT = {"v2_s": 0.2, "v2_m": 0.3, "v2_l": 0.4, "v2_b0": 0.2, "v2_b1": 0.2, "v2_b2": 0.3, "v2_b3": 0.3}


def stages_of(name, total_steps=PUBLISHED_STEPS, **changes):
    config = importlib.import_module(f"configs.{name}").get_config()
    config.update_from_flattened_dict(changes)
    return resolve_stages(config, total_steps, PUBLISHED_STEPS_PER_EPOCH)


@pytest.mark.parametrize("name", SIZES)
def test_published_stages(name):
    stages = stages_of(name)
    assert tuple(stage.end_step for stage in stages) == PUBLISHED_ENDS
    assert tuple(stage.image_size for stage in stages) == SIZES[name]
    assert [stage.dropout_rate for stage in stages] == [DROPOUT[name]] * 4
    for alpha in ("mixup_alpha", "cutmix_alpha"):
        assert [getattr(stage, alpha) for stage in stages] == pytest.approx(ALPHAS.get(name, (0,) * 4), abs=5e-4)
    magnitudes = [stage.randaugment_magnitude for stage in stages]
    assert magnitudes == pytest.approx(MAGNITUDES.get(name, (None,) * 4), abs=5e-3)  # B0 to B3 have AutoAugment
    if name in COSTS:
        pixels = sum(stage.image_size**2 for stage in stages) / 4 / stages[-1].image_size ** 2
        assert pixels == pytest.approx(COSTS[name], abs=5e-4)


@pytest.mark.parametrize("name", ["b0", "b7", "quickstart", "fashion_mnist"])
def test_a_run_of_one_stage_has_the_values_of_its_configuration(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    (stage,) = stages_of(name)
    assert stage.end_step == PUBLISHED_STEPS
    assert stage.image_size == (config.image_size or {"b0": 224, "b7": 600}[name])
    assert stage.randaugment_magnitude is None  # AutoAugment, or nothing
    assert (stage.mixup_alpha, stage.cutmix_alpha) == (0, 0)
    assert stage.dropout_rate == {"b0": 0.2, "b7": 0.5}.get(name, 0.1)


@pytest.mark.parametrize(
    ("pixels", "sizes"), [(224, (152, 176, 200, 224)), (32, (23, 26, 29, 32)), (28, (20, 23, 25, 28))]
)
def test_sizes_for_any_network(pixels, sizes):
    stages = stages_of("b0", **{"image_size": pixels, "progressive.stages": 4})
    assert tuple(stage.image_size for stage in stages) == sizes


def test_ends_in_every_unit():
    ends = {"progressive.stages": 4, "progressive.ends": ("10 %", "40 epochs", "99999 steps")}
    assert [stage.end_step for stage in stages_of("b0", **ends)] == [10_733, 12_267, 99_999, PUBLISHED_STEPS]


def test_what_is_given_is_taken():
    given = {
        "data.augment": "randaugment",
        "progressive.stages": 2,
        "progressive.image_sizes": (96, 224),
        "progressive.randaugment_magnitudes": (2.5, 7.0),
        "progressive.mixup_alphas": (0.1, 0.3),
        "progressive.cutmix_alphas": (0.0, 1.0),
        "progressive.dropout_rates": (0.1, 0.25),
    }
    values = [
        (stage.image_size, stage.randaugment_magnitude, stage.mixup_alpha, stage.cutmix_alpha, stage.dropout_rate)
        for stage in stages_of("b0", **given)
    ]
    assert values == [(96, 2.5, 0.1, 0.0, 0.1), (224, 7.0, 0.3, 1.0, 0.25)]


def test_the_magnitude_of_one_stage_is_that_of_its_configuration():
    (stage,) = stages_of("b0", **{"data.augment": "randaugment", "data.randaugment_magnitude": 17.0})
    assert stage.randaugment_magnitude == 17


def test_the_stage_follows_from_the_step():
    stages = stages_of("v2_s")
    steps = {0: 0, 26_833: 0, 26_834: 1, 53_667: 1, 53_668: 2, 107_335: 3, 107_336: 3}
    assert {step: stage_at(stages, step) for step in steps} == steps


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"progressive.stages": 3, "progressive.image_sizes": (96, 224)},
            "has 2 values and config.progressive.stages is 3",
        ),
        ({"progressive.mixup_alphas": (0.1, 0.2)}, "has 2 values and config.progressive.stages is 1"),
        ({"progressive.stages": 2, "progressive.image_sizes": (96, 160)}, "the largest must be the size of the run"),
        (
            {"progressive.stages": 3, "progressive.ends": ("5 epochs",)},
            "has 1 values and config.progressive.stages is 3",
        ),
        ({"progressive.stages": 3, "progressive.ends": ("9 steps", "8 steps")}, "end after 9, 8, 107,336 steps"),
        ({"progressive.stages": 2, "progressive.ends": ("400 epochs",)}, "each must end after the one before"),
        (
            {"progressive.stages": 2, "progressive.randaugment_magnitudes": (5.0, 9.0)},
            "has no effect with config.data.augment='autoaugment_v0'",
        ),
    ],
)
def test_stages_that_contradict_each_other_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said.replace(",", r"\,")):
        stages_of("b0", **changes)


def test_more_stages_than_steps_are_refused():
    with pytest.raises(ConfigError, match="each must end after the one before"):
        stages_of("b0", total_steps=3, **{"progressive.stages": 4})


@pytest.mark.parametrize(
    ("stages", "ends", "moves"), [(1, (), False), (4, (), True), (2, ("50 %",), True), (2, ("8 epochs",), False)]
)
def test_which_stages_move_with_the_duration(stages, ends, moves):
    config = recipe.get_config()
    config.progressive.stages, config.progressive.ends = stages, ends
    assert changed_by_duration(config.progressive.to_dict()) == moves
