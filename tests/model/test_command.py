"""`python -m pipeline.model`: the tables say the published figures; a wrong name is one clear line."""

import sys

import pytest

from pipeline.errors import ConfigError
from pipeline.model.__main__ import main


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command with arguments and returns what it prints."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pipeline.model", *arguments])
        main()
        return capsys.readouterr().out

    return run


def test_family(command):
    rows = {line.split()[0]: line.split() for line in command().splitlines()}
    assert rows["b0"][5:8] == ["5,288,548", "42,016", "385,814,752"]
    assert rows["b7"][3:6] == ["600", "0.5", "66,347,960"]
    assert rows["b7"][-2:] == ["4-7-7-10-10-13-4", "32-48-80-160-224-384-640"]


def test_blocks(command):
    lines = command("--variant", "b0", "--num_classes", "10").splitlines()
    assert len(lines) == 1 + 16 + 1
    last_skip = lines[15].split()
    assert last_skip[0] == "blocks_5_3"
    assert "0.8250" in last_skip  # 1 - 0.2 * 14 / 16
    assert "4,020,358 parameters" in lines[-1]  # 4,007,548 without the classifier, and 1,281 for each class


def test_search_lists_the_papers_mix_at_twice_the_cost(command):
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in command("--search", "b0").splitlines()}
    pixels, blocks, params, macs = rows["1.20", "1.10"][1:5]
    assert (blocks, params) == ("23", "9,109,994")  # B2's
    assert int(macs.replace(",", "")) == pytest.approx(2 * 385_814_752, rel=0.03)
    assert int(pixels) < 258  # at which the constraint alone would have it


def test_a_scaled_network_block_by_block(command):
    assert (
        command("--variant", "b0:width=2,depth=3.1,resolution=600").splitlines()[:-1]
        == (command("--variant", "b7").splitlines()[:-1])
    )


@pytest.mark.parametrize("flag", ["--variant", "--search"])
def test_unknown_variant_is_one_line(command, flag):
    with pytest.raises(ConfigError, match=r"^model variant 'b9' is unknown; the variants are b0"):
        command(flag, "b9")
