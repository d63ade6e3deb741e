"""FITS files: header cards, checksums and pixels, without a full parse."""
