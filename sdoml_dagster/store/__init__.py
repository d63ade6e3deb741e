"""The store: bytes under names, and where each artifact of a day lies."""
