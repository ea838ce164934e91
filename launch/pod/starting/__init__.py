"""Leads from a command line to a supervised run: settings, checks before anything costs money, the services or a dry run."""
