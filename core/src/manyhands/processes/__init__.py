"""Worker processes: how they start, how their end is seen, and why none of them outlives its parent."""
