"""The EfficientNet family: scaling rules, the network, and what its layers are made of."""
