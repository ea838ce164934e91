"""One update of the parameters, as pure functions: loss, gradients, optimizer, averages, metrics."""
