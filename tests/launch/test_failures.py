"""The kind of a trainer's end, from its exit code and the end of its log."""

import pytest
from pod.job import failures

LOGS = [
    (78, "", failures.CONFIGURATION),
    (1, "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes", failures.MEMORY),
    (1, "open(/dev/vfio/0): Device or resource busy", failures.TPU),
    (1, "RuntimeError: Unable to initialize backend 'tpu': UNKNOWN: TPU initialization failed", failures.TPU),
    (1, "step  100/20000  epoch 1\nopen(/dev/vfio/0): Device or resource busy", failures.CRASH),
    (71, "config.platform='tpu', but JAX found 8 device(s) of platform 'cpu'", failures.TPU),
    (71, "no space left on device", failures.CRASH),
    (-11, "", failures.CRASH),
    (None, "", failures.LOST),
]


def test_a_trainer_that_was_asked_before_it_could_save():
    assert failures.kind_of(143, "", asked=True) == failures.PREEMPTED
    assert failures.kind_of(143, "") == failures.CRASH


@pytest.mark.parametrize(("code", "log", "kind"), LOGS)
def test_the_kind_of_an_end(code, log, kind):
    assert failures.kind_of(code, log) == kind
