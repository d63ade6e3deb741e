"""Exporters: write datasets in the formats that other projects read."""
