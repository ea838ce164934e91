"""One machine of a slice: what it knows of itself, what it installs, the trainer it runs and its log."""
