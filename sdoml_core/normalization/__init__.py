"""Normalization: sketches of pixel values, fitted constants, and the transform to [0, 1]."""
