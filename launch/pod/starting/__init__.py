"""Leads from a command line to a supervised run: options, settings, and checks before anything costs money."""
