"""Settings: one typed model, and errors that name the setting."""
