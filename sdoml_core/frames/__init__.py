"""Processing of single frames, from file bytes to pixels on the common grid."""
