"""Dagster sensors: automation, freshness, the dataset's range, dead runs, failures and old logs."""
