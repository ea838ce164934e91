"""Carries messages between supervisor, keeper and agents, as objects in the run's bucket."""
