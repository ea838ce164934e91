"""FixRes: adapts weights that were trained at one image size to a larger one, at almost no cost.

launch/local.sh --config configs/fashion_mnist.py --config.image_size=20 --workdir runs/small
launch/local.sh --config configs/fix_resolution.py --workdir runs/fixed --config.init_from=runs/small

Random crops make objects larger in training than in evaluation. A larger evaluation image compensates for that, but changes
the distribution of the activations before the classifier. So only the classifier and the last BatchNorm are trained a little,
on images that are preprocessed as in evaluation (Touvron et al., arXiv 1906.06423). Published gain: 1.7 points for B0, at 320
pixels, and for B1 (facebookresearch/FixRes). For another network, start from its configuration and change the lines below.
"""

from ml_collections import ConfigDict

from configs import fashion_mnist


def get_config() -> ConfigDict:
    config = fashion_mnist.get_config()
    config.init_from = "runs/small"
    config.image_size = 28  # the size at which the weights are used; 320 for B0
    config.finetune.trained = "classifier_and_last_norm"
    config.model.survival_probability = 1.0  # frozen parts need no regularisation
    config.data.crop = "evaluation"
    config.data.augment = "none"
    config.duration = "2 epochs"
    config.schedule.warmup = "0.2 epochs"
    config.schedule.lr_per_256 = 0.002
    config.ema.decay = 0.99
    config.evaluation.every = "1 epochs"
    return config
