"""Asset checks: read materialized data from the store and check it.

There is one module for each checked asset and one for freshness. `days` contains shared code.
"""
