"""What a run will need and cost, found out before it starts: the real step, compiled for TPUs that are not here."""
