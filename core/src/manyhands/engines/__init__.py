"""Whole pipes side by side: shards of one input, parts of one output, and the engine that runs them."""
