"""Sampling: the order of an epoch, ranks and resuming."""
