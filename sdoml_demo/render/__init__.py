"""Render the Sun at any time and in any channel from a few real frames."""
