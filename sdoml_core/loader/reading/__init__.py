"""From byte ranges to tensors: reading ahead, buffers, collation and units."""
