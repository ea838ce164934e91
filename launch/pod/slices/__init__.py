"""The slice, kept from outside: what it is, what it costs, asking for it, watching, replacing and deleting it."""
