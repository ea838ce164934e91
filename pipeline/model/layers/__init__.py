"""What networks are made of: convolutions, BatchNorm, gates, activations and initialisers."""
