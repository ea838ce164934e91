"""What a process has of its machine: its words and its end, open files, caches, paths, and places that are its own."""
