"""The JSOC archive over HTTP: client, circuit breaker, and inspection of its files."""
