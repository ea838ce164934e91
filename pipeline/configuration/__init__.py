"""What a configuration means: the domain of each key, durations in steps, and every number that follows."""
