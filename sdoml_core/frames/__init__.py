"""Processing of individual frames, from file bytes to pixels on the common grid."""
