"""What connects a run to the outside: processes, devices, checkpoints, reports."""
