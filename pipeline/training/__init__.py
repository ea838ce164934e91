"""The train step and everything around it: schedules, optimizer, state, evaluation, loop."""
