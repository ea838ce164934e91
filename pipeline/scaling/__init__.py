"""Finds the coefficients of compound scaling by training, and compares the ways of scaling a baseline."""
