"""One frame: from the bytes of a file to pixels on the common grid."""
