"""Stands in for `pipeline.train`: writes down how it was started and ends as the test's plan says.

The plan is a list, one entry for each time this worker is started: {"status": exit status, "say": text, "hold": wait to be
released or stopped, "only": the workers that this is for; the others hold, or end with "then" soon after, "deaf": take no
notice of SIGTERM, "saving": seconds that a checkpoint takes}.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

folder, worker = Path(os.environ["BED_TRAINER"]), int(os.environ["BED_WORKER"])
with (folder / f"starts-{worker}").open("a+") as starts:
    given = {name: value for name, value in os.environ.items() if name.startswith("GIVEN_")}
    number = int(os.environ["BED_NUMBER"])
    line = {"argv": sys.argv[1:], "cwd": os.getcwd(), "pid": os.getpid(), "environment": given, "node": number}
    starts.seek(0)
    times = len(starts.readlines()) + 1
    plan = json.loads((folder / "plan.json").read_text())
    entry = plan[min(times, len(plan)) - 1]

    def stop(*_) -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(143))  # asked again: at once, without saving
        time.sleep(entry.get("saving", 0))
        print("saved a checkpoint", flush=True)
        os._exit(75)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if entry.get("deaf") else stop)
    starts.write(json.dumps(line) + "\n")
print(f"worker {worker}, start {times}", flush=True)
if "progress" in entry:
    print(f"step {entry['progress']}/100 loss 1.0", flush=True)
if worker not in entry.get("only", [worker]) and "then" in entry:
    while not (folder / "ended").exists():
        time.sleep(0.02)
    time.sleep(0.2)  # the time by which the others notice
    sys.exit(entry["then"])
if entry.get("hold") or worker not in entry.get("only", [worker]):
    while not (folder / "release").exists():
        time.sleep(0.02)
print(entry.get("say", "done"), flush=True)
status = entry.get("status", 0)
(folder / "ended").touch()
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
