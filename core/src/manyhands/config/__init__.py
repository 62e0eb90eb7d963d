"""The job file: what it may say, how it is read, and the pipe it makes."""
