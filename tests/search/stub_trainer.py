"""Stands for the trainer: leaves what a run leaves, with an accuracy that the network decides, or diverges."""

import hashlib
import json
import pathlib
import sys

given = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
workdir, variant, seed = pathlib.Path(given["workdir"]), given["config.model.variant"], int(given["config.seed"])
digest = hashlib.sha256(f"{workdir.parent.name} {variant} {seed}".encode()).digest()
workdir.mkdir(parents=True, exist_ok=True)
with (workdir / "starts").open("a") as starts:
    starts.write("started\n")
if digest[0] < 40:
    print("Error: the loss is nan at step 3")
    sys.exit(70)
if digest[0] < 50:
    print("Error: no memory left: the machine gave none")
    sys.exit(71)
results = {"evaluation": {"ema": {"top1": digest[1] / 256}}, "config": {"seed": seed, "model": {"variant": variant}}}
partial = workdir / "results.partial"
partial.write_text(json.dumps(results))
partial.rename(workdir / "results.json")
