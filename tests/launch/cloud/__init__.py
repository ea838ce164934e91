"""A loopback Google Cloud for the launcher's tests: Cloud TPU, Compute, Storage, metadata servers, and workers.

Each service speaks Google's own JSON on 127.0.0.1, and `test_gcloud_*.py` have the real gcloud read and write the same:
what it cannot read fails there. Workers are local processes that run the startup script of their slice. Nothing here knows
the launcher's modules; `bed.py` starts it as a user does.
"""
