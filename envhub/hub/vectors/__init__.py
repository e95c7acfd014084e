"""Sessions of many environments each: their processes, and the memory shared with them."""
