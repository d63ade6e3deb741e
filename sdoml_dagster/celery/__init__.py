"""Celery deployment: the worker application and the run launcher."""
