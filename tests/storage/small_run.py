"""A run without a network: the input, the checkpoints and the record of the real one, around a sum that takes no time.

It tells of each step, so that whoever started it can kill it anywhere; started again it goes on.
"""

import types
from multiprocessing.connection import Connection

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from pipeline.data.loading.batches import train_batches
from pipeline.data.sources import open_source
from pipeline.reporting.goodput import Goodput
from pipeline.reporting.reporter import Reporter
from pipeline.runtime.checkpoints import Checkpoints
from tests.data.tiny import Noise

BATCH_SIZE = 16
SAVE_EVERY = 5
EVALUATE_EVERY = 10


def run(workdir: str, data_dir: str, steps: int, told: Connection) -> None:
    """Is a process of the run; sends each step, and "done" at the end."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    source = open_source("digits", "train", data_dir)
    hparams = types.SimpleNamespace(total_steps=steps, steps_per_epoch=10, batch_size=BATCH_SIZE)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = {"step": jnp.int32(0), "sum": jnp.zeros((64, 64), jnp.uint32)}
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state)
    with (
        Checkpoints(f"{workdir}/checkpoints", keep=2) as checkpoints,
        Checkpoints(f"{workdir}/best", keep=2) as best,
    ):
        restored = checkpoints.restore_newest(abstract)
        state = state if restored is None else restored[0]
        start = int(state["step"])
        best.forget_after(start)
        with Reporter(workdir, hparams, start, Goodput({}), tensorboard=True) as reporter:

            def evaluate(step: int) -> None:
                if step and step % EVALUATE_EVERY == 0:
                    if not reporter.has("evaluation", step):
                        reporter.record("evaluation", step, {"top1": step})
                    checkpoints.wait()
                    best.save(step, state, {"step": step})

            evaluate(start)  # as the real one: it may have been killed before the evaluation or the best was written
            batches = train_batches(source, Noise(), batch_size=BATCH_SIZE, seed=1, start_step=start)
            for step in range(start + 1, steps + 1):
                batch = next(batches)
                pixels = batch["image"].astype(np.uint32).sum(axis=(0, 3))
                rows = np.resize(pixels, (64, 64)) + np.uint32(step)
                state = {"step": jnp.int32(step), "sum": state["sum"] * jnp.uint32(31) + jnp.asarray(rows)}
                reporter.record("train", step, {"records": int(batch["record"].sum())})
                if step % SAVE_EVERY == 0:
                    reporter.wait()
                    best.wait()
                    checkpoints.save(step, state, {"step": step})
                evaluate(step)
                told.send(step)
            batches.close()
            reporter.wait()
    told.send("done")
