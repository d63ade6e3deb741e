"""Former name of `sdoml_dagster.celery.app`, kept for existing worker commands."""

from sdoml_dagster.celery.app import app

__all__ = ["app"]
