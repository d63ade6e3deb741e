"""The store: named files, and the layout of a day's artifacts."""
