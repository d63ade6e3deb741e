"""Settings: a typed model, and errors that name the setting."""
