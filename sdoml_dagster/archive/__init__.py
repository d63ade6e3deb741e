"""The JSOC archive over HTTP: client, circuit breaker, and inspection of what it serves."""
