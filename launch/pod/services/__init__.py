"""Talks REST to the services of a run: tokens, slices, machines and buckets."""
