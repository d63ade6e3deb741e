"""Pixel math, file formats and the PyTorch loader of sdoml-lite.

The functions take and return bytes and arrays. They do not use the network, an orchestrator,
environment variables or logging. The exception is :mod:`sdoml_core.loader`, which reads shards from
disk or over the network. All other code with side effects is in ``sdoml_dagster``.
"""

__version__ = "0.1.0"
