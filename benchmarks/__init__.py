"""Measures manyhands against hand-written loops and other tools: see README.md."""
