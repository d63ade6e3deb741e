"""The steps of one day: fetch, process, fit and pack. No Dagster here."""
