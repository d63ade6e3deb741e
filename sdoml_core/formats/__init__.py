"""File formats: ledgers, sketches, shards and indexes as bytes."""
