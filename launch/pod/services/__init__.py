"""The services a run needs, over REST: requests, tokens, slices, machines, buckets; and those of a dry run."""
