"""The configurations: one recipe, and a short file for each model size or purpose."""
