"""The store: reads and writes files, and defines their paths."""
