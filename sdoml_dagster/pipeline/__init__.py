"""The steps of one day: fetch, process, fit and pack. This package does not use Dagster."""
