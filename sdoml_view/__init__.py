"""Web viewer for datasets: calendar, day view, comparison, light curves and movies.

The viewer needs no Dagster and no PyTorch. It reads frames through `sdoml_core.loader` by byte
ranges, so a remote release opens without a download. It listens only on the loopback interface and
never writes to a dataset.
"""
