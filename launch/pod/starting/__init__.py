"""From a command line to a supervised run: options, settings, and what is checked before anything costs money."""
