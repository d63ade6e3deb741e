"""Web viewer for datasets: calendar, day view, comparison, light curves and movies.

The viewer needs neither Dagster nor PyTorch. It uses `sdoml_core.loader` to read frames by byte
ranges, so a remote release can be opened without a download. It listens only on the loopback
interface and never writes to a dataset.
"""
