"""Which samples come next: the order of an epoch, ranks and resuming."""
