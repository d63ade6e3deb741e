"""Former name of `sdoml_dagster.celery.app`: worker commands of existing deployments use it."""

from sdoml_dagster.celery.app import app

__all__ = ["app"]
