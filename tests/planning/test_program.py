"""What is kept of the compiler's words: found again by content, on this machine or in the repository."""

import json

import jax
import jax.numpy as jnp
import pytest

from pipeline.planning import program
from pipeline.planning.slices import parse_slice

SLICE = parse_slice("v5e-8")


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Names of what was compiled; the CPU's compiler stands in for libtpu, whose words are not what is tested here."""
    names = []
    compile_ = program._compile
    monkeypatch.setattr(program, "_compile", lambda *arguments: names.append(arguments) or compile_(*arguments))
    monkeypatch.setattr(program, "compiler_version", lambda: "1.0")
    monkeypatch.setattr(program, "_precompiled", dict)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return names


def lowered(size: int) -> jax.stages.Lowered:
    return jax.jit(lambda array: array @ array).lower(jnp.zeros((size, size)))


def test_the_same_content_is_compiled_once(compiled):
    first = program.compile_program(lowered(8), SLICE, {}, "net-train")
    assert program.compile_program(lowered(8), SLICE, {}, "another name") == first
    assert len(compiled) == 1
    program.compile_program(lowered(16), SLICE, {}, "net-train")
    program.compile_program(lowered(8), parse_slice("v5e-16"), {}, "net-train")
    assert len(compiled) == 3


def test_another_way_of_counting_and_another_compiler_are_no_match(compiled, monkeypatch):
    program.compile_program(lowered(8), SLICE, {}, "net-train")
    monkeypatch.setattr(program.hlo, "FORMAT_VERSION", program.hlo.FORMAT_VERSION + 1)
    program.compile_program(lowered(8), SLICE, {}, "net-train")
    monkeypatch.setattr(program, "compiler_version", lambda: "1.1")
    program.compile_program(lowered(8), SLICE, {}, "net-train")
    assert len(compiled) == 3


def test_what_comes_with_the_repository_is_not_compiled(compiled, monkeypatch, tmp_path):
    first = program.compile_program(lowered(8), SLICE, {}, "net-train")
    (kept,) = (tmp_path / "cache" / "efficientnet" / "plans").iterdir()
    assert kept.name.startswith("net-train-v5e-8-")
    entry = {"key": kept.stem[-32:], "program": json.loads(kept.read_text())}
    kept.unlink()
    (tmp_path / "precompiled.json").write_text(json.dumps({"net-train-v5e-8": entry}))
    monkeypatch.undo()
    monkeypatch.setattr(program, "compiler_version", lambda: "1.0")
    monkeypatch.setattr(program, "PRECOMPILED", tmp_path / "precompiled.json")
    program._precompiled.cache_clear()
    try:
        assert program.compile_program(lowered(8), SLICE, {}, "net-train") == first
    finally:
        program._precompiled.cache_clear()
    assert len(compiled) == 1
