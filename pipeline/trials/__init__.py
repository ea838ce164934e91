"""What studies that train many networks share: their trials, the processes that run them, and what a network costs."""
