"""The processing steps: fetch, process, fit and pack. This package does not use Dagster."""
