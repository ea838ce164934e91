"""Keeps the job from worker 0: reads all workers' reports, finds what they mean, and decides what comes next."""
