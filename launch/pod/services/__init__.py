"""Talks REST to the services of a run: tokens, slices, machines and buckets. Has stand-ins for a dry run."""
