"""Asset checks: read materialized data back from the store and check it.

There is one module per checked asset, and one for freshness.
"""
