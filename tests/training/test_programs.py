"""Programs of stages: one ahead, none kept that is over, and nobody waits for what has been compiled meanwhile."""

import threading
import weakref

import pytest

from pipeline.training.programs import StagePrograms

STAGES = ("small", "middle", "large")  # they are only passed on


class Program:
    def __init__(self, stage):
        self.stage = stage


class Compiler:
    """Compiles a stage when it is allowed to, and says when it has begun and ended."""

    def __init__(self):
        self.begun = {stage: threading.Event() for stage in STAGES}
        self.allowed = {stage: threading.Event() for stage in STAGES}
        self.threads = {}
        self.alive = weakref.WeakValueDictionary()

    def __call__(self, stage):
        self.threads[stage] = threading.current_thread()
        self.begun[stage].set()
        assert self.allowed[stage].wait(60)
        program = self.alive[stage] = Program(stage)
        return program


def test_the_next_program_is_made_while_the_one_before_is_in_use():
    compiler = Compiler()
    programs = StagePrograms(STAGES, compiler)
    compiler.allowed["small"].set()
    assert programs.enter(0).stage == "small"  # and does not wait for the next
    assert compiler.begun["middle"].wait(60)
    assert not compiler.begun["large"].is_set(), "one ahead and no more"
    compiler.allowed["middle"].set()
    compiler.threads["middle"].join(60)
    assert programs.enter(1).stage == "middle"
    assert compiler.begun["large"].wait(60)
    assert set(compiler.alive) == {"middle"}, "what is over is let go"
    assert all(thread.daemon for thread in compiler.threads.values()), "no process waits for a compiler at its end"
    compiler.allowed["large"].set()
    assert programs.enter(2).stage == "large"


def test_a_run_that_starts_in_a_later_stage_compiles_that_one_alone():
    compiler = Compiler()
    for stage in STAGES:
        compiler.allowed[stage].set()
    assert StagePrograms(STAGES, compiler).enter(2).stage == "large"
    assert set(compiler.threads) == {"large"}


def test_what_the_compiler_raises_comes_when_the_stage_does():
    def fails(stage):
        if stage == "middle":
            raise MemoryError("too large")
        return Program(stage)

    programs = StagePrograms(STAGES, fails)
    assert programs.enter(0).stage == "small"
    with pytest.raises(MemoryError, match="too large"):
        programs.enter(1)
