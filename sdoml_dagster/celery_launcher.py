"""Former name of `sdoml_dagster.celery.launcher`: existing dagster.yaml files name it."""

from sdoml_dagster.celery.launcher import WatchfulCeleryRunLauncher

__all__ = ["WatchfulCeleryRunLauncher"]
