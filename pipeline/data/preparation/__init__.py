"""Makes datasets that `pipeline.data.sources` can open; used by `python -m pipeline.prepare` and never by a running job."""
