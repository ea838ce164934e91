"""Requests a slice, watches, replaces and deletes it, from outside. Knows its type and its cost."""
