"""Former name of `sdoml_dagster.celery.launcher`, kept for existing dagster.yaml files."""

from sdoml_dagster.celery.launcher import WatchfulCeleryRunLauncher

__all__ = ["WatchfulCeleryRunLauncher"]
