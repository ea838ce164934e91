"""The networks: families as tables, scaling rules, and the Flax modules."""
