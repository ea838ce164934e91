"""Weights in and out: one table of names, one container, a reader and a writer for each format."""
