"""For how long something has been silent, where looking is disturbed now and then."""

from pod.job.silence import Silence


class Time:
    """A clock that a test moves."""

    def __init__(self):
        self.seconds = 50.0

    def monotonic(self) -> float:
        return self.seconds


def test_silence_is_the_time_without_a_change():
    clock = Time()
    silence = Silence(clock)
    seen = [silence.look({"a": 1, "b": "same", "c": None}, 15)]
    for value in (2, 3, 3, 3):
        clock.seconds += 10
        seen.append(silence.look({"a": value, "b": "same", "c": None}, 15))
    assert [look["a"] for look in seen] == [0, 0, 0, 10, 20]
    assert [look["b"] for look in seen] == [0, 10, 20, 30, 40]
    assert [look["c"] for look in seen] == [0, 10, 20, 30, 40], "who never answered is silent too"


def test_a_disturbance_is_nobodys_silence():
    clock = Time()
    silence = Silence(clock)
    silence.look({"a": 1}, 15)
    clock.seconds += 10
    assert silence.look({"a": 1}, 15) == {"a": 10}
    clock.seconds += 1000  # nothing could be seen
    assert silence.look({"a": 1}, 15) == {"a": 25}
    clock.seconds += 10
    assert silence.look({"a": 1}, 15) == {"a": 35}
    clock.seconds += 10
    assert silence.look({"a": 2, "b": 1}, 15) == {"a": 0, "b": 0}
