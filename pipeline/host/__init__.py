"""A process and its machine: messages, exit, open files, caches, paths and locks."""
