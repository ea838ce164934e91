"""Keeps the job from worker 0: reads all reports, decides what comes next, and gives the slice back in the end."""
