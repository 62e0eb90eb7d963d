"""Folders to begin with: a backend of one's own, a job made from a sample of one's data."""
