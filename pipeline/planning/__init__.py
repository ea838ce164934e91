"""What a run will need and cost, from the real step compiled for TPUs that are not here."""
