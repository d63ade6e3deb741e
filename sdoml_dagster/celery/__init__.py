"""Deployment with Celery: the worker application and the run launcher."""
