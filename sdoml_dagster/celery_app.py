"""Former name of `sdoml_dagster.celery.app`, kept for worker commands of existing deployments."""

from sdoml_dagster.celery.app import app

__all__ = ["app"]
