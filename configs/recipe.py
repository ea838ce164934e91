"""The published EfficientNet recipe: every number that training depends on, with its source.

`configs/b0.py` … `configs/b7.py` change a few lines of this configuration. Every key can be set on the command line, for
example `--config.batch_size=1024` or `--config.duration='90 epochs'`. Durations are text with a unit, "350 epochs",
"1000 steps" or (where a wall clock makes sense) "15 minutes"; `pipeline/configuration/durations.py` reads them.

Sources. [paper] Tan and Le, EfficientNet, arXiv 1905.11946v5, section 5.2. [main.py] and [efficientnet_builder.py] the
authors' code, tensorflow/tpu, models/official/efficientnet. [tpu#N] a thread of that repository.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """Returns the recipe of the AutoAugment row of the published results, for B0."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 4096  # images in a step, over all devices; the authors' answer in tpu#546
    config.duration = "350 epochs"  # [main.py] 218,949 steps of 2,048 images
    config.image_size = placeholder(int)  # pixels; unset: the size that belongs to the model
    config.platform = placeholder(str)  # "tpu", "gpu" or "cpu": refuse to start on another; unset: any
    config.virtual_devices = placeholder(
        int
    )  # split the CPU into this many devices, to rehearse; unset: 1, or XLA_FLAGS

    config.data = ConfigDict(
        {
            "name": "imagenet2012",  # a tfds dataset that `python -m pipeline.prepare` has prepared
            "data_dir": placeholder(str),  # the folder or gs:// path of datasets; unset: $TFDS_DATA_DIR, then ./data
            "stage": "none",  # copy the data to each host's "disk" or "memory" in the background; see docs/storage.md
            "train_split": "train",
            "eval_split": "validation",
            "crop": "random_resized",  # or "shift", for small images; "evaluation": as in evaluation, see docs/progressive.md
            "crop_area": (0.08, 1.0),  # smallest and largest share of the image [preprocessing.py]
            "crop_covers": 0.1,  # a smaller share than this is drawn again; EfficientNetV2: 0 [preprocessing.py]
            "shift_fraction": 0.125,  # with crop="shift": the largest translation, as a share of the size
            "flip": True,  # horizontally, half of the images [preprocessing.py]
            "augment": "autoaugment_v0",  # "none", "autoaugment_v0" or "randaugment" [autoaugment.py]
            "augment_semantics": "published",  # "published": to the bit, quirks included; "clean": without its quirks
            "randaugment_layers": 2,  # [main.py]
            "randaugment_magnitude": 10.0,  # [main.py]; published: B5 17, B7 and B8 28
            "random_erasing": 0.0,  # probability that an image loses a rectangle; no published result used it
            "resize": "bicubic_tf1",  # "bicubic_tf1", "bicubic", "bicubic_antialias" or "bilinear" [preprocessing.py]
            "train_resize": "fast",  # with "bicubic_tf1": "exact" is TensorFlow's to the bit, "fast" centres its samples
            "eval_crop": "padding",  # "padding": size / (size + eval_crop_padding) of the shorter side; "fraction"; "none"
            "eval_crop_padding": 32,  # pixels [preprocessing.py until November 2021: all published numbers]
            "eval_crop_fraction": 0.875,  # with eval_crop="fraction"
            "mean_rgb": (0.485 * 255, 0.456 * 255, 0.406 * 255),  # [efficientnet_builder.py]
            "stddev_rgb": (0.229 * 255, 0.224 * 255, 0.225 * 255),  # [efficientnet_builder.py]
            "apply_exif_orientation": False,  # the published pipeline ignores it
            "max_bad_images": 100,  # the most damaged images that one process tolerates in a start
            "workers": -1,  # processes that decode and augment on each host; -1: by the number of CPUs; 0: none
        }
    )

    config.model = ConfigDict(
        {
            "variant": "b0",  # a row of `python -m pipeline.model`, or one scaled: "b0:phi=2"; see pipeline/model/variants.py
            "dropout_rate": placeholder(float),  # unset: the variant's own, 0.2 (B0) to 0.5 (B7) [paper]
            # The next three are the family's own if unset; the values in the comments are those of B0 to B8.
            "survival_probability": placeholder(
                float
            ),  # 0.8, of the last block; falls linearly from 1 [paper] (tpu#381)
            "bn_momentum": placeholder(float),  # 0.99 [paper]
            "bn_epsilon": placeholder(float),  # 1e-3 [efficientnet_builder.py]
            "bn_batch": 512,  # images that share batch statistics: the authors' slices made it 512 [utils.py]
            "dtype": "bfloat16",  # of activations; parameters, statistics, logits and loss are float32 [main.py]
            "remat": False,  # recompute each block's activations in the backward pass: less memory, more time
        }
    )

    # EfficientNetV2's progressive learning, for any network and dataset: docs/progressive.md. A list has a value for each
    # stage; where it is empty, values rise to those of the configuration as the authors' do [efficientnetv2/main.py].
    config.progressive = ConfigDict(
        {
            "stages": 1,  # published: 4; 1: the whole run is one
            "ends": (),  # of all but the last: "25 %" of the run, "80 epochs", "1000 steps"; empty: equal parts
            "image_sizes": (),  # the largest is image_size; empty: equal parts from 128 pixels, or from 2/3 of a small size
            "randaugment_magnitudes": (),  # empty: from 5
            "mixup_alphas": (),  # empty: from 0
            "cutmix_alphas": (),  # empty: from 0
            "dropout_rates": (),  # empty: constant, as in the code; the paper has it rise
        }
    )

    config.init_from = placeholder(str)  # initial weights: a run, or anything that `python -m pipeline.convert` reads
    config.finetune = ConfigDict(
        {
            "head": "auto",  # classifier: "keep" that of init_from, "new", or "auto": new if the number of classes differs
            "frozen_stages": 0,  # number of parts that are not trained: the stem first, then the stages
            "frozen_batch_norm": False,  # keep the statistics of every BatchNorm unchanged
            "trained": "all",  # or "classifier_and_last_norm": what FixRes trains (arXiv 1906.06423)
            "stage_lr_factor": 1.0,  # learning rate of a part over that of the next one; the head has the schedule's
        }
    )

    config.loss = ConfigDict(
        {
            "label_smoothing": 0.1,  # [main.py]
            "weight_decay": 1e-5,  # times half the squared norm of all but BatchNorm, in the loss [paper, main.py]
            "mixup_alpha": 0.0,  # no published result of B0 to B7 used it (tpu#623)
            "cutmix_alpha": 0.0,  # with both, mixup is for the first half of a batch and CutMix for the second
            "mix_semantics": "clean",  # each label follows its image's pixels; "published": those of CutMix, their mean
        }
    )

    config.optimizer = ConfigDict(
        {
            "name": "rmsprop",  # as TensorFlow 1 computes it; or "lars", for batches above 16,384, with a schedule of its own
            "decay": 0.9,  # [paper]
            "momentum": 0.9,  # [paper]
            "epsilon": 1e-3,  # inside the square root [utils.py]
            "trust_coefficient": 0.001,  # with name="lars" [lars_optimizer.py]
            "lars_weight_decay": 0.0,  # with name="lars": besides loss.weight_decay; the released code has 1e-5 in both
            "lars_epsilon": 0.0,  # with name="lars": in the trust ratio [lars_optimizer.py]
        }
    )

    config.schedule = ConfigDict(
        {
            "name": "exponential",  # or "cosine", "polynomial" (power 2, for LARS), "constant" [utils.py]
            "lr_per_256": 0.016,  # multiplied by batch_size / 256: 0.256 at 4,096 [main.py]
            "warmup": "5 epochs",  # linear from 0 [main.py]
            "decay_rate": 0.97,  # [paper]
            "decay_every": "2.4 epochs",  # a staircase, counted from step 0 [utils.py]
            "final_lr": 0.1,  # with name="polynomial": the final rate, absolute and below the peak [utils.py]
        }
    )

    config.ema = ConfigDict(
        {
            "decay": 0.9999,  # of parameters and BN statistics; capped at (1 + t) / (10 + t); 0: no averages [main.py]
        }
    )

    config.evaluation = ConfigDict(
        {
            "every": "1 epochs",
            "image_size": placeholder(int),  # pixels; unset: the size of training, or of the largest stage
            "batch_size": 1024,  # over all devices, and rounded up to a multiple of them [main.py]; padding is masked
            "confusion": False,  # also count every (label, prediction) pair
        }
    )

    config.checkpoint = ConfigDict(
        {
            "every": "1 epochs",
            "also_every": "15 minutes",  # by the clock, checked at reports; "0 minutes": never
            "keep": 5,  # number of newest ones [main.py]; the best by EMA top-1 is kept too
            "keep_every": "50 epochs",  # checkpoints at this interval are never deleted; "0 epochs": none
        }
    )

    config.resume_changed = False  # continue a run although keys of its training differ; each is printed
    config.resume_changed_data = False  # continue a run although its training data differ
    config.log = ConfigDict(
        {
            "every": "64 steps",  # [main.py]
            "tensorboard": True,  # in addition to metrics.jsonl
            "norms": False,  # also the l2 norms of the parameters and of their last update: l2_params, l2_updates
        }
    )
    config.watchdog = ConfigDict(
        {
            "warn_seconds": 300,  # without progress, before the stack of every thread is printed; 0: never
            "abort_seconds": 1800,  # without progress, before the process ends itself; 0: never
            "peer_seconds": 100,  # without a heartbeat of one process, before the others end themselves
        }
    )

    config.launch = ConfigDict(
        {
            "accelerator_type": "v5litepod-32",  # what launch/tpu_pod.sh asks for; 128 images on a chip fill its lanes
            "spot": False,
        }
    )
    return config
