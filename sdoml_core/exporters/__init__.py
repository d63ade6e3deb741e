"""Exporters: write datasets in the formats that loaders of other projects read."""
