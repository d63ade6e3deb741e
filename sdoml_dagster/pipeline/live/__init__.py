"""The near-real-time dataset: look for new frames, collect them, publish a rolling window."""
