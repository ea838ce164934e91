"""One command from nothing to a training job on a Cloud TPU slice that looks after itself.

Needs Python 3.9 and its standard library only: the machines of a slice start with nothing else. `supervisor` keeps the slice
from outside; `agent` and `keeper` run on the slice and keep the job; a bucket is what they know of each other (`control`).
"""
