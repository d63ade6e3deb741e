"""Everything that touches the world: HTTP, the store, partitions, retries, schedules, checks."""
