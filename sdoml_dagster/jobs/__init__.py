"""Dagster jobs: asset jobs and maintenance jobs."""
