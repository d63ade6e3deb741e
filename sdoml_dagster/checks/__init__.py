"""Asset checks: read materialized data back from the store and judge it.

One module per checked asset, and one for freshness.
"""
