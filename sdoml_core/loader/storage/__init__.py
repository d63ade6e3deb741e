"""Read local and remote shards, their indexes, and the catalog of frames."""
