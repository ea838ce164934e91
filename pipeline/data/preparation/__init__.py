"""Makes datasets that `pipeline.data.sources` can open, for `python -m pipeline.prepare`; a run makes the digits alone."""
