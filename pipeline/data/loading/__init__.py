"""From a source and a transform to batches: order, worker processes, the memory they share, damaged images."""
