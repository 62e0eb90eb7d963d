"""Doors for programs that are written for another interface: `concurrent.futures` and joblib."""
