"""Rendering: from a few real frames to the Sun at any time, in any channel."""
