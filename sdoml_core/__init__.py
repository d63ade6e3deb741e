"""The pixel math of sdoml-lite: bytes and arrays in, bytes and arrays out.

Nothing here knows a network, an orchestrator, an environment variable or a log; only
:mod:`sdoml_core.loader` reads shards, from disks and over the network. All else that touches the
world is in ``sdoml_dagster``.
"""

__version__ = "0.1.0"
