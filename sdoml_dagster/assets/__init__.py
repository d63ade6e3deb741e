"""The assets: each body reads its partition, calls the library, and returns metadata."""
