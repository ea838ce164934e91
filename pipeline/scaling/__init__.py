"""Compound scaling as a method: find a baseline's coefficients by training, and compare the ways of scaling it."""
