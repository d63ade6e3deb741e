"""The store: reading and writing of files, and their paths."""
