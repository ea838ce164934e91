"""The job, kept from worker 0: what all workers report, what it means, and what to do next."""
