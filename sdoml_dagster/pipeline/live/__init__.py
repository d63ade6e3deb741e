"""The near-real-time dataset: check for new frames, fetch them, and publish a rolling window."""
