"""Builds the parts of a configuration: model, optimizer, data, devices and hyperparameters.

Training, evaluation, plans and benchmarks all start from an `Experiment`, so they run the same step on the same batches.
Building one computes nothing on the devices.
"""

import collections
import contextlib
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from configs import recipe
from pipeline.configuration.domains import DOMAINS
from pipeline.configuration.hyperparameters import Hyperparameters, resolve
from pipeline.configuration.stages import Stage
from pipeline.data.loading import batches
from pipeline.data.preparation.datasets import ensure_digits
from pipeline.data.preprocessing import eval_transform, train_transform
from pipeline.data.sources import Source, open_source, stage
from pipeline.model.network import Network, build_model, with_family_defaults
from pipeline.runtime.lowering import CompilerOptions, compiler_options, depthwise_channels_per_group
from pipeline.runtime.mesh import make_mesh, replicated, split_by_example, to_devices
from pipeline.storage.staging import Staging
from pipeline.training import finetuning
from pipeline.training.compatibility import flatten
from pipeline.training.evaluation import make_eval_step
from pipeline.training.update.metrics import EvalMetrics
from pipeline.training.update.optimizer import Schedule, make_optimizer, make_schedule
from pipeline.training.update.state import TrainState, abstract_state, create_state
from pipeline.training.update.step import Batch, make_train_step

BATCHES_AHEAD = 2  # number of batches that wait on the devices
BATCH_DTYPES = {"image": np.uint8, "label": np.int32, "weight": np.float32, "record": np.int32}  # on the devices


@dataclasses.dataclass(frozen=True)
class DatalessExperiment:
    """The parts of a run that need no data: enough to compile its steps."""

    config: ConfigDict
    hparams: Hyperparameters
    mesh: Mesh
    model: Network
    schedule: Schedule
    tx: optax.GradientTransformation

    @staticmethod
    def without_data(config: ConfigDict, hparams: Hyperparameters, mesh: Mesh) -> "DatalessExperiment":
        """Builds the parts that need no data, enough to compile for the devices of `mesh`, which need not exist."""
        config = config.copy_and_resolve_references()
        config.model = with_family_defaults(config.model)
        schedule = make_schedule(config, hparams)
        channels_per_group = depthwise_channels_per_group(mesh, hparams.batch_size // mesh.size)
        model = build_model(config.model, hparams.num_classes, channels_per_group)
        return DatalessExperiment(
            config=config,
            hparams=hparams,
            mesh=mesh,
            model=finetuning.freeze_statistics(model, config),
            schedule=schedule,
            tx=finetuning.limit_updates(make_optimizer(config, schedule), config),
        )

    def create_state(self) -> TrainState:
        """Returns the state at step 0 on all devices, with the weights of `config.init_from` if set."""
        state = create_state(
            self.model, self.tx, **self._state_options, seed=self.config.seed, sharding=self.replicated
        )
        if self.config.init_from is None:
            return state
        return finetuning.start_from(state, self.config, self.hparams.num_classes, self.replicated)

    def abstract_state(self) -> TrainState:
        """Returns the state's shapes, dtypes and sharding."""
        return self._abstract_state

    def abstract_state_of(self, metadata: dict[str, Any]) -> TrainState:
        """Returns the abstract state of a run with this saved metadata, as far as the recipe still has its keys."""
        config = recipe.get_config()
        known = {key: value for key, value in flatten(metadata["config"]).items() if key in DOMAINS}
        with config.ignore_type():  # JSON turns tuples into lists
            config.update_from_flattened_dict(known)
        classes = len(metadata.get("class_names", ())) or self.hparams.num_classes
        hparams = dataclasses.replace(self.hparams, num_classes=classes)
        return self.without_data(config, hparams, self.mesh).abstract_state()

    def compile_train_step(self, stage: Stage | None = None):
        """Returns the compiled function of `make_train_step` for a stage; the state that it takes is donated.

        It is compiled ahead of its first call, so a second compilation cannot go unnoticed.
        """
        return self.lower_train_step(stage).compile(self.compiler_options)

    @property
    def compiler_options(self) -> CompilerOptions:
        """The compiler's options for both steps."""
        return compiler_options(self.mesh)

    def lower_train_step(self, stage: Stage | None = None) -> jax.stages.Lowered:
        """Returns the train step of a stage, by default the last, lowered for the mesh's devices."""
        stage = stage or self.hparams.stages[-1]
        model = self.model.clone(dropout_rate=stage.dropout_rate)
        step = jax.jit(
            make_train_step(stage.configure(self.config), model, self.tx),
            donate_argnums=0,
            out_shardings=self.replicated,
        )
        return step.lower(self.abstract_state(), self.abstract_batch(self.hparams.batch_size, stage.image_size))

    def lower_eval_step(self) -> jax.stages.Lowered:
        """Returns the evaluation step, lowered for the mesh's devices."""
        step = jax.jit(make_eval_step(self.config, self.model), donate_argnums=2, out_shardings=self.replicated)
        batch = self.abstract_batch(self.hparams.eval_batch_size, self.hparams.eval_image_size)
        sums = self._on_all_devices(jax.eval_shape(EvalMetrics.empty))
        return step.lower(self.abstract_state().raw_variables(), batch, sums)

    def steps(self) -> dict[str, Callable[[], jax.stages.Lowered]]:
        """Returns what lowers each step of the run, by name.

        The names are "train", or "train-1" and so on if there are several stages, and "evaluation", in this order.
        """
        stages = self.hparams.stages
        names = ["train"] if len(stages) == 1 else [f"train-{number}" for number in range(1, len(stages) + 1)]
        train = {name: functools.partial(self.lower_train_step, stage) for name, stage in zip(names, stages)}
        return {**train, "evaluation": self.lower_eval_step}

    @functools.cached_property
    def eval_step(self):
        """The compiled `(variables, batch, sums) -> sums`; the argument `sums` is donated."""
        return self.lower_eval_step().compile(self.compiler_options)

    def abstract_batch(self, batch_size: int, image_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes, dtypes and sharding of a global batch."""
        split = split_by_example(self.mesh)
        shapes = {name: (batch_size,) for name in BATCH_DTYPES} | {"image": (batch_size, image_size, image_size, 3)}
        return {name: _abstract(shapes[name], dtype, split) for name, dtype in BATCH_DTYPES.items()}

    @property
    def replicated(self) -> jax.sharding.NamedSharding:
        """The sharding of the state and of the sums."""
        return replicated(self.mesh)

    @functools.cached_property
    def _abstract_state(self) -> TrainState:
        return self._on_all_devices(abstract_state(self.model, self.tx, **self._state_options))

    def _on_all_devices(self, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: _abstract(leaf.shape, leaf.dtype, self.replicated), tree)

    @property
    def _state_options(self) -> dict:
        return {"image_size": self.hparams.image_size, "with_ema": self.config.ema.decay > 0}


@dataclasses.dataclass(frozen=True)
class Experiment(DatalessExperiment):
    """The parts of one run, with its data.

    Attributes:
      staging: the copies of the shards on this machine, if `config.data.stage` asks for them.
    """

    train_source: Source
    eval_source: Source
    staging: Staging | None

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Experiment":
        """Opens the data and builds the parts.

        Raises:
          ConfigError, DataError: the configuration or the data cannot work.
        """
        if config.data.name == "digits":
            ensure_digits(config.data.data_dir)
        train_source = open_source(config.data.name, config.data.train_split, config.data.data_dir)
        eval_source = open_source(config.data.name, config.data.eval_split, config.data.data_dir)
        staging = _stage(config.data.stage, train_source, eval_source)
        hparams = resolve(
            config,
            num_classes=train_source.num_classes,
            num_train_examples=len(train_source),
            num_eval_examples=len(eval_source),
            num_devices=jax.device_count(),
        )
        parts = cls.without_data(config, hparams, make_mesh())
        own = {field.name: getattr(parts, field.name) for field in dataclasses.fields(parts)}
        return cls(**own, train_source=train_source, eval_source=eval_source, staging=staging)

    @functools.cached_property
    def metadata(self) -> dict[str, Any]:
        """The JSON that is saved beside the state: configuration, class names, fingerprint of the data."""
        return {
            "config": json.loads(self.config.to_json_best_effort()),
            "class_names": list(self.train_source.class_names),
            "data": self.train_source.fingerprint,
        }

    def train_batches(self, start_step: int) -> batches.Batches:
        """Returns this process's rows of the batches from a step on, each as its stage has it, without end."""
        stages = self.hparams.stages
        first, *later = (train_transform(stage.configure(self.config).data, stage.image_size) for stage in stages)
        return batches.train_batches(
            self.train_source,
            first,
            later=list(zip((stage.end_step for stage in stages), later)),
            batch_size=self.hparams.batch_size,
            seed=self.config.seed,
            start_step=start_step,
            **self._loader_options,
        )

    def eval_passes(self) -> batches.EvalPasses:
        """Returns this process's rows of the evaluation split, for any number of passes; the caller closes it."""
        return batches.EvalPasses(
            self.eval_source,
            eval_transform(self.config.data, self.hparams.eval_image_size),
            batch_size=self.hparams.eval_batch_size,
            **self._loader_options,
        )

    def eval_batches(self, passes: batches.EvalPasses | None = None) -> Generator[Batch]:
        """Returns the batches of the evaluation split, on the devices; the last is padded with weight 0.

        Args:
          passes: the source of the batches; by default workers are started for this evaluation alone.
        """
        with contextlib.ExitStack() as cleanup:
            passes = passes or cleanup.enter_context(contextlib.closing(self.eval_passes()))
            host_batches = cleanup.enter_context(contextlib.closing(passes.next_pass()))
            yield from self.on_devices(host_batches)

    def on_devices(self, host_batches: Iterable[dict[str, np.ndarray]]) -> Iterator[Batch]:
        """Copies batches to the devices, some of them ahead of their use."""
        copies = (
            to_devices(self.mesh, {name: batch[name].astype(dtype, copy=False) for name, dtype in BATCH_DTYPES.items()})
            for batch in host_batches
        )
        ahead = collections.deque(itertools.islice(copies, BATCHES_AHEAD))
        while ahead:
            if self.staging is not None:
                self.staging.raise_changed()
            yield ahead.popleft()
            ahead.extend(itertools.islice(copies, 1))

    @property
    def _loader_options(self) -> dict:
        return {
            "process_index": jax.process_index(),
            "process_count": jax.process_count(),
            "workers": self.config.data.workers,
            "max_bad_images": self.config.data.max_bad_images,
        }


def _stage(place: str, *sources: Source) -> Staging | None:
    return None if place == "none" else stage(place, sources)


def _abstract(shape: tuple[int, ...], dtype, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
