"""Fine-tuning, tried from digits to Fashion-MNIST: initial weights, a new head, and lower rates near the input.

launch/local.sh --config configs/quickstart.py --workdir runs/digits
launch/local.sh --config configs/finetune.py --workdir runs/finetune --config.init_from=runs/digits

For other weights, set `config.model.variant` to their network and `config.data` to your images. `config.init_from` is a run, a
folder of `pipeline.convert`, a TensorFlow checkpoint, or a file of timm or Keras.
"""

from ml_collections import ConfigDict

from configs import fashion_mnist


def get_config() -> ConfigDict:
    config = fashion_mnist.get_config()
    config.duration = "4 epochs"
    config.init_from = "runs/digits"
    config.finetune.head = "new"  # both have ten classes, but different ones
    config.finetune.stage_lr_factor = 0.8
    config.model.variant = "mini0"
    config.schedule.warmup = "0.5 epochs"
    return config
