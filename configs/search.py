"""The default search of `python -m pipeline.search`: every value, with its source.

`configs/search_*.py` start from it and change a few lines. The trials of a search are ordinary runs of the trainer; `train`
names their configuration.

Sources. [MnasNet] Tan et al., arXiv 1807.11626. [EfficientNet] Tan and Le, arXiv 1905.11946, section 4. [evolution] Real et
al., arXiv 1802.01548.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns a search around B0 with MnasNet's choices. The authors used reinforcement learning and about 8,000 trials."""
    config = ConfigDict()
    config.train = "configs/b0.py"  # the configuration of every trial
    config.overrides = ()  # overrides of its keys for all trials, as on the command line: ("data.flip=False",)
    config.held_out = 4  # percent of the training split that trials are judged by; 50,000 of ImageNet [MnasNet]
    config.baseline = "b0"  # the network that the space is around; see pipeline/model/variants.py

    config.space = ConfigDict(
        {
            "operations": ("mbconv", "fused_mbconv", "separable"),
            "kernels": (3, 5),  # [MnasNet]
            "expansions": (1, 3, 4, 6),
            "se_ratios": (0.0, 0.25),  # [MnasNet]
            "widths": (0.75, 1.0, 1.25),  # times the baseline's channels [MnasNet]
            "repeats": (-1, 0, 1),  # added to the baseline's [MnasNet]
        }
    )
    config.algorithms = ("evolution", "random")  # each searches by itself; see pipeline/search/algorithms
    config.seeds = (0, 1)  # of each algorithm
    config.trials = 100  # of each algorithm and seed
    config.in_flight = 1  # trials of one search that are proposed before the first of them has ended
    config.evolution = ConfigDict(
        {
            "population": 20,  # [evolution]: 100, for 20,000 networks
            "tournament": 5,  # [evolution]: 25
        }
    )
    config.reward = ConfigDict(
        {
            "form": "soft",  # or "hard" [MnasNet]
            "exponent": -0.07,  # of the soft form [MnasNet, EfficientNet]
            "target": 1.0,  # the target cost, in costs of the baseline
        }
    )
    config.limits = ConfigDict(  # networks beyond them are not trained; 0: no limit
        {
            "cost": 2.0,  # in target costs; also the reference of the hypervolume, so it must be above 1
            "parameters": 0,
            "activations": 0,  # values of one image that the backward pass keeps: the outputs of all convolutions
            "compile_minutes": 20.0,  # with --cost=cycles
        }
    )
    # Overrides for the short trials, such as ("duration=1 epochs",) [MnasNet: 5 epochs]. Shorten the averages with it: after
    # few steps, the default BatchNorm momentum and EMA decay still hold much of their first values.
    config.proxy = ()
    config.full = ConfigDict(
        {
            "predicted": 10,  # networks that are also trained in full on the same split, for the rank correlation; 0: none
            "best": 3,  # networks that are trained in full on the whole training split and tested
            "seeds": 3,  # of each of the best
        }
    )
    return config
