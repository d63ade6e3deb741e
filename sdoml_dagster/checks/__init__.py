"""Checks: whether what was materialized is what it should be, read back from the store.

One module per asset that is checked. The checks of an asset run in one step after it; those that
concern a day know their partition.
"""
