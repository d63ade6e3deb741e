"""Pixel math, file formats and the PyTorch loader of sdoml-lite.

The functions take bytes and arrays and return bytes and arrays. They use no network, no
orchestrator, no environment variables and no logging. The exception is :mod:`sdoml_core.loader`,
which reads shards from disk or over the network. Everything else with side effects is in
``sdoml_dagster``.
"""

__version__ = "0.1.0"
