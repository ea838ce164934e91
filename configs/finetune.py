"""Fine-tuning, tried from digits to Fashion-MNIST: start from weights, a new head, slower towards the image.

launch/local.sh --config configs/quickstart.py --workdir runs/digits
launch/local.sh --config configs/finetune.py --workdir runs/finetune --config.init_from=runs/digits

For other weights change `config.model.variant` to theirs, and `config.data` to the images. `config.init_from` is a run, a
folder of `pipeline.convert`, a TensorFlow checkpoint, or a file of timm or Keras.
"""

from ml_collections import ConfigDict

from configs import fashion_mnist


def get_config() -> ConfigDict:
    config = fashion_mnist.get_config()
    config.duration = "4 epochs"
    config.init_from = "runs/digits"
    config.finetune.head = "new"  # both have ten classes, but others
    config.finetune.stage_lr_factor = 0.8
    config.model.variant = "mini0"
    config.schedule.warmup = "0.5 epochs"
    return config
