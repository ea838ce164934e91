"""The same network in timm on the CPU, as its users train it: the baseline for our train step there.

It runs in float32 and channels-last order with PyTorch's RMSProp and label smoothing, on one thread per CPU. It does less than
ours: no moving averages, no weight decay, no sums of metrics.
"""

import json
import os

from pipeline.benchmarks.step import StepCosts
from pipeline.errors import ConfigError
from pipeline.training.experiment import DatalessExperiment
from pipeline.weights import timm_runtime

_STEPS = """
import json, statistics, time
variant, size, batch, classes, smoothing, threads, rounds = json.loads(sys.argv[1])
torch.set_num_threads(threads)
network = timm.create_model('tf_efficientnet_' + variant, num_classes=classes).to(memory_format=torch.channels_last).train()
optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-4, alpha=0.9, momentum=0.9, eps=1e-3)
loss_fn = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
images = torch.rand(batch, 3, size, size).to(memory_format=torch.channels_last)
labels = torch.randint(0, classes, (batch,))
seconds, cpu_seconds = [], []
for _ in range(rounds + 1):
    start, cpu_start = time.perf_counter(), time.process_time()
    optimizer.zero_grad(set_to_none=True)
    loss = loss_fn(network(images), labels)
    loss.backward()
    optimizer.step()
    loss.item()
    seconds.append(time.perf_counter() - start)
    cpu_seconds.append(time.process_time() - cpu_start)
print(json.dumps([statistics.median(seconds[1:]), statistics.median(cpu_seconds[1:])]))
"""


def measure_timm(experiment: DatalessExperiment, rounds: int) -> StepCosts:
    """Returns the median costs of timm's step, after one that is not counted.

    Raises:
      ConfigError: our step is not in float32 on the CPU, timm has no such network, or $TIMM_PYTHON has no timm.
    """
    config, hparams = experiment.config, experiment.hparams
    platform = experiment.mesh.devices.flat[0].platform
    if platform != "cpu" or config.model.dtype != "float32":
        raise ConfigError(
            f"--timm is timed in float32 on the CPU, and would be compared with {config.model.dtype} on {platform}: "
            "set JAX_PLATFORMS=cpu and give --config.model.dtype=float32"
        )
    timm_runtime.check()
    arguments = [
        *(config.model.variant, hparams.image_size, hparams.batch_size, hparams.num_classes),
        *(config.loss.label_smoothing, len(os.sched_getaffinity(0)), rounds),
    ]
    result = timm_runtime.run(timm_runtime.IMPORTS + _STEPS, json.dumps(arguments))
    if result.returncode:
        raise ConfigError(f"timm cannot train {config.model.variant!r}: {result.stderr.strip().splitlines()[-1]}")
    return StepCosts(*json.loads(result.stdout.splitlines()[-1]))
