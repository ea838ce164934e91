"""Networks with stages of their own: as text, as files, and scaled; and one clear line for what is none."""

import json

import pytest

from pipeline import command
from pipeline.errors import ConfigError
from pipeline.model import notation, table_file
from pipeline.model.counting import count_architecture
from pipeline.model.families import VARIANTS
from pipeline.model.scaling import architecture
from pipeline.model.variants import ScaledVariant, spelled_out
from tests.configs import tiny

# The stages of B0 as timm's _gen_efficientnet has them; an expansion of 1 is its depthwise-separable block.
TIMM_B0 = (
    "ir_r1_k3_s1_e1_c16_se0.25/ir_r2_k3_s2_e6_c24_se0.25/ir_r2_k5_s2_e6_c40_se0.25/ir_r3_k3_s2_e6_c80_se0.25/"
    "ir_r3_k5_s1_e6_c112_se0.25/ir_r4_k5_s2_e6_c192_se0.25/ir_r1_k3_s1_e6_c320_se0.25"
)
SEARCHED = "mini0/er_r1_k3_s2_e1_c16/ir_r2_k5_s1_e4_c24_se0.25/dsa_r3_k3_s2_e1_c48"


def test_a_published_network_comes_out_of_its_stages():
    stages = notation.read(TIMM_B0)
    assert stages == VARIANTS["b0"].baseline.stages
    assert notation.write(stages) == TIMM_B0
    assert architecture(f"mini0/{TIMM_B0}").blocks[1:] == architecture("b0").blocks[1:]  # the stem is mini0's
    assert count_architecture(architecture(f"b0/{TIMM_B0}"), 1000).params == 5_288_548  # timm and Keras count the same


def test_stages_of_one_s_own_are_scaled_as_a_row_is():
    scaled = architecture(f"b0/{TIMM_B0}:phi=7,alpha=1.1755,beta=1.1041,gamma=1.151,resolution=600")
    assert scaled.blocks == architecture(f"b0:depth={1.1755**7},width={1.1041**7},resolution=600").blocks
    assert architecture(f"{SEARCHED}:width=2").blocks[0].output_filters == 32


@pytest.mark.parametrize("text", [SEARCHED, f"{SEARCHED}:depth=1.2,resolution=20"])
def test_what_is_written_is_what_was_read(text):
    assert str(ScaledVariant.parse(text)) == text


def written(folder, **changes):
    stages = [dict(vars(stage)) for stage in notation.read(SEARCHED.partition("/")[2])]
    content = {"row": "mini0", "depth": 1.0, "width": 0.5, "resolution": 20, "stages": stages, **changes}
    path = folder / "winner.json"
    path.write_text(json.dumps(content))
    return path


def test_a_file_is_the_network_that_it_describes(tmp_path):
    path = written(tmp_path)
    text = table_file.write("mini0", notation.read(SEARCHED.partition("/")[2]), depth=1.0, width=0.5, resolution=20)
    assert json.loads(text) == json.loads(path.read_text())
    inline = f"{SEARCHED}:width=0.5,resolution=20"
    assert spelled_out(str(path)) == inline
    assert architecture(str(path)).blocks == architecture(inline).blocks
    assert str(ScaledVariant.parse(f"{path}:width=3,depth=2")) == f"{SEARCHED}:depth=2,width=1.5,resolution=20"
    assert str(ScaledVariant.parse(f"{path}:phi=1,gamma=1.5")) == f"{SEARCHED}:depth=1.2,width=0.55,resolution=30"


def test_a_run_keeps_the_table_and_not_the_name_of_its_file(tmp_path):
    config = tiny.get_config()
    config.model.variant = str(written(tmp_path))
    assert command.checked(config).model.variant == f"{SEARCHED}:width=0.5,resolution=20"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mini0/", "'' is no stage; write ir_r2_k3_s2_e4_c24_se0.25"),
        ("mini0/ir_r1_k4_s1_e1_c16", "'ir_r1_k4_s1_e1_c16' is no stage"),
        ("mini0/ir_r0_k3_s1_e1_c16", "is no stage"),
        ("mini0/xx_r1_k3_s1_c16", "is no stage"),
        ("mini0/" + "/".join(["er_r1_k3_s1_c8"] * 21), "there are 21 stages; a table has at most 20"),
        ("b77/ir_r1_k3_s1_c16", "is unknown; the variants are b0"),
        ("nowhere/winner.json", "the table nowhere/winner.json cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_table_is_one_line(text, said):
    with pytest.raises(ConfigError) as error:
        architecture(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"row": 3},
        {"row": "b77"},
        {"width": "wide"},
        {"width": -1},
        {"resolution": 20.5},
        {"stages": 4},
        {"stages": []},
        {"stages": [{}]},
        {"extra": 1},
    ],
)
def test_a_file_that_is_no_table_is_one_line(tmp_path, changes):
    path = written(tmp_path, **changes)
    with pytest.raises(ConfigError) as error:
        architecture(str(path))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value) or "model variant" in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00"])
def test_a_damaged_file_is_one_line(tmp_path, content):
    path = tmp_path / "winner.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"winner.json is not a table of stages") as error:
        architecture(str(path))
    assert "\n" not in str(error.value)
