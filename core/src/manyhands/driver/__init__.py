"""The loop that feeds an executor: back-pressure, order, retries, blame and accounting, once for all backends."""
