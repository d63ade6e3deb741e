"""Rendering: from two real frames to the Sun at any time, in any channel."""
