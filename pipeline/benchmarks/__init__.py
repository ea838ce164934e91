"""Everything that measures, for `python -m pipeline.benchmark`; nothing here is used in training."""
