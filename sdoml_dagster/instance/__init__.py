"""A Dagster home for one machine: its dagster.yaml, and a function that creates it."""
