"""Finds a baseline by search: networks around a given one, weighed by accuracy and cost (MnasNet, arXiv 1807.11626)."""
