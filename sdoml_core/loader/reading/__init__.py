"""Read byte ranges into tensors: prefetching, buffers, collation and units."""
