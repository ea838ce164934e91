import pytest

from pipeline.configuration.durations import in_steps, is_due
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "steps"),
    [("350 epochs", 109_474.75), ("1 epoch", 312.785), ("1000 steps", 1000.0), (" .5epochs ", 156.3925)],
)
def test_in_steps_at_the_published_batch(text, steps):
    # RECIPE of the authors: 1,281,167 images in batches of 4,096 are 312.785 steps an epoch.
    assert in_steps(text, 312.785, "duration") == pytest.approx(steps)


@pytest.mark.parametrize("text", ["", "350", "epochs", "-1 epochs", "3 weeks", "1e3 steps", "10 minutes"])
def test_what_is_no_number_of_steps_is_refused_by_name(text):
    with pytest.raises(ConfigError, match=r"config\.schedule\.warmup"):
        in_steps(text, 100.0, "schedule.warmup")


def test_periods_do_not_drift():
    every = 312.785
    happened = [step for step in range(1, 110_000) if is_due(step, every)]
    assert len(happened) == int(109_999 / every)
    assert all(0 <= step - number * every < 1 for number, step in enumerate(happened, start=1))


def test_is_due_over_a_range():
    assert is_due(10, 4.0, since=7)
    assert not is_due(11, 4.0, since=8)
    assert not is_due(11, 0.0, since=0)
