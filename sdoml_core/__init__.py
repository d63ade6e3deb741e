"""The pixel math of sdoml-lite: bytes and arrays in, bytes and arrays out.

Nothing here knows a network, an orchestrator, an environment variable or a log; only
:mod:`sdoml_core.loader` opens files. Everything that touches the world is in ``sdoml_dagster``.
"""

__version__ = "0.1.0"
