"""`launch/pod/plane/progress.py`: figures computed by hand."""

from pod.plane import progress

EVENTS = [
    {"event": "train", "step": 100, "images_per_second": 64.0},  # 100 steps of 32: 50 s
    {"event": "evaluation", "step": 100, "ema_top1": 0.75, "raw_top1": 0.9},
    {"event": "train", "step": 300, "images_per_second": 640.0},  # 200 steps of 32: 10 s
    {"event": "evaluation", "step": 300, "ema_top1": 0.5},
]


def test_productive_time_counts_each_step_once():
    assert progress.productive_seconds(EVENTS, batch_size=32) == 60.0


def test_status_lines():
    slices = [  # 150 s and 2,400 chip-seconds, then 50 s of 16 chips until now
        {"chips": 16, "ready": 1000, "gone": 1100},
        {"chips": 16, "ready": 2000, "gone": 2050},
        {"chips": 16, "ready": 3000, "gone": None},
    ]
    log = "step   200/12,000  epoch 1\nstep   300/12,000  epoch  2  left 1:02:03\n"
    lines = progress.describe(EVENTS, log, 32, slices, now=3050.0)
    assert lines == [
        "step        300 of 12,000",
        "top-1       50.00% at the last evaluation, 75.00% at best",
        "time left   1:02:03",
        "chip-hours  0.9",  # (2,400 + 50 s of 16 chips) / 3,600
        "goodput     30% of the slice's time",  # 60 s of 150 + 50
    ]


def test_before_the_first_step():
    assert progress.describe([], "", 32, [], now=0.0) == ["step        0", "chip-hours  0.0"]


def test_a_damaged_line_is_left_out():
    for damaged in ('{"event": "tra', "1", "[]", "{}", "null", "\0\0"):
        text = f'{{"event": "train", "step": 1}}\n{damaged}'
        assert progress.read_events(text) == [{"event": "train", "step": 1}], damaged
