"""Dagster runs: the executor, recovery of runs that were killed, and deletion of old records."""
