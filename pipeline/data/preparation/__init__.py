"""Prepares datasets that `pipeline.data.sources` can open, for `python -m pipeline.prepare`; a run prepares only the digits."""
