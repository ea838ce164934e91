"""What supervisor, keeper and agents tell each other, as objects in the run's bucket."""
