"""One command from nothing to a training job on a Cloud TPU slice that looks after itself.

It needs only Python 3.9 and the standard library, because the machines of a slice start with nothing else. `supervisor` keeps
the slice from outside. `agent` and `keeper` run on the slice and keep the job. They communicate through a bucket (`control`).
"""
