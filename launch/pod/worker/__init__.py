"""Runs on each machine of a slice: installs packages, runs the trainer, and sends its log and reports."""
