"""What connects a run to its machines: processes, devices, signals and checkpoints."""
