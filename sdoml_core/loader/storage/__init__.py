"""Access to shards: folders and remote stores, their indexes, and the catalog of frames."""
