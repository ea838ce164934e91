"""Batches of 16,384 to 65,536 images with LARS: `configs/large_batch.py:b2_32768`.

launch/tpu_pod.sh --config configs/large_batch.py:b5_65536

The rates and warm-ups are those of arXiv 2011.00071, tables 1 and 2. Its abstract reports 83 % for B5 at 65,536 images on
1,024 v3 cores after 1 hour and 4 minutes. RMSProp keeps its accuracy up to 16,384 images and not beyond (tensorflow/tpu#571).
The polynomial ends at 0.1 for every batch. LARS decays the weights twice, as with its released flags: in the loss and in its
own update. Set either to 0 for a single decay. Rates that are too large show first in `l2_updates` beside `l2_params`.
"""

from ml_collections import ConfigDict

from configs import recipe

ROWS = {
    # variant, batch size, base rate, epochs of warm-up, v3 slice
    "b2_16384": ("b2", 16_384, 0.236, 50, "v3-512"),
    "b2_32768": ("b2", 32_768, 0.118, 50, "v3-1024"),
    "b5_16384": ("b5", 16_384, 0.236, 50, "v3-512"),
    "b5_32768": ("b5", 32_768, 0.118, 50, "v3-1024"),
    "b5_65536": ("b5", 65_536, 0.081, 43, "v3-1024"),
}


def get_config(row: str = "b2_32768") -> ConfigDict:
    if row not in ROWS:
        raise ValueError(f"configs/large_batch.py:{row}: the rows are {', '.join(ROWS)}")
    config = recipe.get_config()
    config.model.variant, config.batch_size, lr, warmup_epochs, slice_type = ROWS[row]
    config.optimizer.name = "lars"
    config.optimizer.lars_weight_decay = 1e-5
    config.schedule.name = "polynomial"
    config.schedule.lr_per_256 = lr
    config.schedule.warmup = f"{warmup_epochs} epochs"
    config.evaluation.batch_size = 4096
    config.log.norms = True
    config.launch.accelerator_type = slice_type
    return config
